#!/bin/bash
cat > /app/backup.sh <<'SCRIPT'
#!/bin/bash
mkdir -p /app/backup
count=0
for file in /data/*.txt; do
  cp "$file" "/app/backup/$(basename "$file").bak" && count=$((count + 1))
done
echo $count
SCRIPT
chmod +x /app/backup.sh
