#!/usr/bin/env bash
# Trains on several hosts over ssh, without Ray; docs/launching.md tells what that opens.
#
#   launch/horovodrun_hosts.sh host1:4,host2:4 --pairs /shared/pairs/train --output /shared/runs/one
#
# HOSTS is name:ranks,... and what follows are the options of `sharedlayers train`. Start it on the
# first host. Each host has this repository under the same path, set up with launch/setup.sh, and
# lets this user in by a key. HOROVODRUN_OPTIONS are further options of horovodrun, such as
# `--ssh-port 2222 --ssh-identity-file KEY --network-interfaces eth0`.
set -euo pipefail
usage="launch/horovodrun_hosts.sh HOST:RANKS[,HOST:RANKS...] --pairs FOLDER --output FOLDER ..."
[[ ${1:-} =~ ^[^:,]+:[1-9][0-9]*(,[^:,]+:[1-9][0-9]*)*$ ]] || {
  echo "The hosts must be given as HOST:RANKS,... Received: '${1:-}'. Usage: $usage" >&2
  exit 2
}
hosts=$1
shift
ranks=$(($(tr ',' '\n' <<<"$hosts" | cut -d: -f2 | paste -sd+)))
bin=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin
read -ra options <<<"${HOROVODRUN_OPTIONS:-}"
exec "$bin/horovodrun" -np "$ranks" -H "$hosts" "${options[@]}" "$bin/sharedlayers" train "$@"
