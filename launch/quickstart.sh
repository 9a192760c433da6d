#!/usr/bin/env bash
# The main job end to end: pairs of tweets, training on two Horovod ranks, a report on authors that
# were never seen in training. A few minutes on two cores.
#
#   launch/quickstart.sh [FOLDER]     FOLDER (runs/quickstart-DATE-TIME by default) must be new
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-runs/quickstart-$(date +%Y%m%d-%H%M%S)}
[ ! -e "$folder" ] || { echo "launch/quickstart.sh: the folder must be new. Received: $folder, which exists." >&2; exit 2; }
launch/setup.sh
bin=.venv/bin

echo "1/3 making pairs of tweets by synthetic authors"
"$bin/python" datasets/tweets.py --output "$folder/pairs"

echo "2/3 training tweet_pair on two Horovod ranks"
"$bin/horovodrun" -np 2 "$bin/sharedlayers" train --model tweet_pair --head absolute_difference \
  --pairs "$folder/pairs/train" --validation "$folder/pairs/validation" --output "$folder/run" \
  --epochs 2 --batch-size 128 --learning-rate 0.003

echo "3/3 measuring it on pairs of authors that it has never seen"
"$bin/sharedlayers" evaluate --run "$folder/run" --pairs "$folder/pairs/test" --output "$folder/report"

"$bin/python" - "$folder" <<'PYTHON'
import json, sys
folder = sys.argv[1]
figures = json.load(open(f"{folder}/report/metrics.json"))
auc = figures["roc_auc"]
print(f"\nROC AUC {auc:.3f} on {figures['num_pairs']} held-out pairs; guessing is 0.5.")
if auc < 0.8:
    sys.exit("This is below 0.8, what the quickstart is known to reach: something is wrong.")
print("That is clearly better than guessing.")
print(f"run folder: {folder}/run   report: {folder}/report/report.html")
PYTHON
