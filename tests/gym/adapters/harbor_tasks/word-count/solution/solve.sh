#!/bin/bash
tr 'A-Z' 'a-z' < /app/text.txt | grep -oE '[a-z]+' | sort -u | wc -l > /app/count.txt
