#!/bin/bash
cp "$(dirname "$0")/median.py" /srv/stats/median.py
