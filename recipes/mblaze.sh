#!/bin/sh
# mblaze.sh MAILDIR [TEST]: takes the PDFs out of a Maildir's unread messages, and prints where the new ones lie.
#   mblaze.sh ~/Mail/school 'from =~ "@by.example"'
#   mblaze.sh ~/Mail/school | mail-act -- lp -d office {}
set -eu
maildir=$1
mlist -s "$maildir" | mpick ${2:+-t "$2"} | mail-dissect -C "${FILES:-$HOME/in}"
