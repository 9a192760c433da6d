#!/usr/bin/env bash
# The main job end to end: pairs of tweets, the notebook's model and one that is worth starting from,
# each trained on two Horovod ranks, and a report of each on authors that were never seen in training.
# A few minutes on two cores.
#
#   launch/quickstart.sh [FOLDER]     FOLDER (runs/quickstart-DATE-TIME by default) must be new
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-runs/quickstart-$(date +%Y%m%d-%H%M%S)}
[ ! -e "$folder" ] || { echo "launch/quickstart.sh: the folder must be new. Received: $folder, which exists." >&2; exit 2; }
launch/setup.sh
bin=.venv/bin

train() {
  "$bin/horovodrun" -np 2 "$bin/sharedlayers" train --output "$folder/$1" --batch-size 128 \
    --pairs "$folder/pairs/train" --validation "$folder/pairs/validation" "${@:2}"
  "$bin/sharedlayers" evaluate --run "$folder/$1" --pairs "$folder/pairs/test" --output "$folder/$1-report"
}

echo "1/3 making pairs of tweets by synthetic authors"
"$bin/python" datasets/tweets.py --output "$folder/pairs"

echo "2/3 training and measuring the notebook's model"
train notebook --model tweet_pair --head absolute_difference --epochs 1 --learning-rate 0.003

echo "3/3 training and measuring a character CNN"
train cnn --model character_cnn_pair --epochs 1 --optimizer adamw --learning-rate 0.002

"$bin/python" - "$folder" <<'PYTHON'
import json, sys

folder = sys.argv[1]
print()
for name, known in ("notebook", 0.8), ("cnn", 0.9):
    figures = json.load(open(f"{folder}/{name}-report/metrics.json"))
    auc = figures["roc_auc"]
    print(f"{name:8}  ROC AUC {auc:.3f} on {figures['num_pairs']} held-out pairs; guessing is 0.5.")
    if auc < known:
        sys.exit(f"This is below {known}, what the quickstart is known to reach: something is wrong.")
print(f"run folders: {folder}/notebook and {folder}/cnn   reports: beside them, report.html")
PYTHON
