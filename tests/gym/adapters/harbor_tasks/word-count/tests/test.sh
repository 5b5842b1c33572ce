#!/bin/bash
words=$(tr 'A-Z' 'a-z' < /tests/text.txt | grep -oE '[a-z]+' | sort -u | wc -l)
if [ "$(tr -d '[:space:]' < /app/count.txt)" = "$words" ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi
