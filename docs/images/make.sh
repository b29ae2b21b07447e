#!/bin/sh
# Makes the pictures of docs/, from embedded shapes alone: sh docs/images/make.sh
#   report.png  the first screen of reports/kept/shapes/index.html, which `make bench` made
#   check.png   the first sheets of what `detzoo check data=shapes out=DIR` writes
# Needs chromium; colours are reduced, so that each is below 150 kB.
set -e
here=$(cd "$(dirname "$0")" && pwd)
look=$(mktemp -d)
trap 'rm -rf "$look"' EXIT

shot() { # shot PAGE WIDTH HEIGHT PICTURE COLOURS
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$2,$3" \
    --screenshot="$look/$4" "file://$1" >/dev/null 2>&1
  python3 -c "import sys; from PIL import Image; \
Image.open(sys.argv[1]).convert('RGB').quantize(int(sys.argv[3])).save(sys.argv[2], optimize=True)" \
    "$look/$4" "$here/$4" "$5"
}

shot "$here/../../reports/kept/shapes/index.html" 1100 720 report.png 64
(cd "$look" && python3 -m detzoo check data=shapes data.train=24 data.val=8 data.test=8 out=look)
shot "$look/look/index.html" 1000 560 check.png 48
