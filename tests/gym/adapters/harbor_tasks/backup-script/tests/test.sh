#!/bin/bash
passed=0
said=$(timeout 5 /app/backup.sh)
if [ "$said" = "$NUM_FILES" ] && [ "$(ls /app/backup | tr '\n' ' ')" = "a.txt.bak b.txt.bak c.txt.bak " ] \
   && [ "$(cat /app/backup/b.txt.bak)" = b ]; then
  passed=1
fi
echo $passed > /logs/verifier/reward.txt
