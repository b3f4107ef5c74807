#!/usr/bin/env bash
# `make cluster-demo`: three hosts on this machine; encode, mine, train on two of them, promote,
# serve the champion, ask it, take everything down. Jobs are submitted as to any cluster.
set -euo pipefail
cd "$(dirname "$0")/../.."
raybert=${RAYBERT:-.venv/bin/raybert}
export RAYBERT_HOME="$PWD/.raybert/cluster-demo" HF_HUB_OFFLINE=1
hosts=cluster/three-hosts.yaml
if ! { [ "$(id -u)" = 0 ] && command -v ip > /dev/null; }; then
    echo "no root, or no \`ip\`: three Ray nodes share this machine's network"
    mkdir -p "$RAYBERT_HOME"
    sed 's/^network: namespaces.*/network: shared/' $hosts > "$RAYBERT_HOME/hosts.yaml"
    hosts=$RAYBERT_HOME/hosts.yaml
fi
out=$RAYBERT_HOME/demo
data=$PWD/data/demo
rm -rf "$out"
trap '$raybert down' EXIT

say() { printf '\n== %s\n' "$*"; }
submit() { $raybert submit "pipelines/$1.py" -- "${@:2}" --experiment cluster-demo; }

say "three hosts"
$raybert up --config "$hosts"
$raybert status
model=$($raybert offline-model)

say "encode questions and sections, a worker on each host"
encode=(encode_corpus --max-seq-length 48 --rows-per-shard 256 --workers 2)
submit "${encode[@]}" --corpus "$data/docs.parquet" --model "$model" --out "$out/docs"
submit "${encode[@]}" --corpus "$data/queries.parquet" --model "$model" --out "$out/queries"

say "mine hard negatives"
submit mine_hard_negatives --queries "$out/queries" --corpus "$out/docs" \
    --pairs "$data/qrels.tsv" --rules.num-negatives 1 --rules.relative-margin 0.05 \
    --out "$out/negatives"

say "train on two hosts, data-parallel"
submit train_dense --model "$model" --data.files "$out/negatives/shards" \
    --data.columns '{"anchor": "anchor", "positive": "positive", "negative": "negative_1"}' \
    --loss.name MultipleNegativesRankingLoss --max-seq-length 48 --batch.size 32 \
    --schedule.max-steps 12 --scale.workers 2 --out "$out/model"

say "register and promote"
$raybert register cluster-demo "$out/model"
$raybert promote cluster-demo 1
$raybert models cluster-demo

say "encode with the champion, index, serve"
submit "${encode[@]}" --corpus "$data/docs.parquet" --model "$out/model" --out "$out/docs-2"
submit build_index --embeddings "$out/docs-2" --out "$out/index"
$raybert up --config "$hosts" --app serve/search.yaml --set "models={demo: $out/model}" \
    --set "indexes={docs: $out/index}" --set gateway.access.allow_open=true

say "ask"
url=$($raybert status --json | grep -o 'http://[^"]*:8000' | head -1)
curl --silent --show-error --fail --noproxy '*' "$url/v1/search" -H 'content-type: application/json' \
    -d '{"index": "docs", "query": "why do decimal fractions come out slightly wrong", "top_k": 3}' |
    .venv/bin/python -c 'import json, sys; [print("%.4f" % hit["score"], hit["id"]) for hit in json.load(sys.stdin)["hits"]]'
$raybert lineage "$out/index"

say "down"
