import json
import subprocess

CASES = [([3, 1, 2], 2), ([4, 1, 3, 2], 2.5), ([5], 5), ([1, 9], 5.0)]
PROGRAM = "import json, sys; from median import median; l = json.loads(sys.argv[1]); print(json.dumps([median(l), l]))"

right = 0
for numbers, middle in CASES:
    told = subprocess.run(
        ["python3", "-c", PROGRAM, json.dumps(numbers)], cwd="/srv/stats", capture_output=True, text=True, timeout=5
    )
    right += told.returncode == 0 and told.stdout.strip() == json.dumps([middle, numbers])
print(json.dumps({"reward": float(right == len(CASES)), "cases": right}))
