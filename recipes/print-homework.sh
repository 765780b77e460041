#!/bin/sh
# print-homework.sh ACCOUNT: prints each PDF that came, once. Look first: without RUN=1 it only shows the commands.
#
# The pipe makes it quick, the --pending line makes it sure: what a killed run dropped is taken up by the next one.
# A rule in the configuration decides what may be printed; see mail-act --help.
set -eu
account=$1
maildir=${MAILDIR:-$HOME/Mail/$account}
files=${FILES:-$HOME/in}

status=0
mail-fetch -0 "$account" | mail-dissect -0 -C "$files" >/dev/null || status=$?
# One damaged message (65) must not keep the others from being printed: go on, and say so at the end.
mail-dissect --pending "$maildir" -C "$files" >/dev/null || status=$?
if [ "${RUN:-0}" = 1 ]; then
  mail-act --pending "$files" --run || status=$?
else
  mail-act --pending "$files" || status=$?
fi
exit "$status"
