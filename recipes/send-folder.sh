#!/bin/sh
# send-folder.sh FOLDER ACCOUNT TO: mails every PDF in FOLDER, then moves it to FOLDER/sent.
#
# `mail-inject --queue` returns once the message is safe on disk, so a file is moved only when it cannot be lost any more;
# what the server refuses for now stays in the queue for the next `mail-queue run`.
set -eu
folder=$1 account=$2 to=$3
mkdir -p "$folder/sent"
for file in "$folder"/*.pdf; do
  [ -e "$file" ] || continue
  mail-inject --queue -a "$account" --to "$to" -s "$(basename "$file" .pdf)" --body 'See the attached file.' --attach "$file"
  mv -n "$file" "$folder/sent/"
done
mail-queue run
