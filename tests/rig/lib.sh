# Sourced by the rig's scripts: refusing, ports, and process ids. Needs bash 4.3, coreutils, flock, Linux's /proc.
# shellcheck shell=bash
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

# Where cyrus-get unpacks Cyrus.
# shellcheck disable=SC2034  # the scripts use it
CYRUS_ROOT=/var/cache/mailloop-rig/cyrus

die() { printf 'rig: %s\n' "$*" >&2; exit 1; }

# ports N: N loopback ports that nobody listens on, below the range the kernel gives to clients, so that a server that
# was stopped finds its port free again.
ports() {
  local port found=
  while [ "$(wc -w <<<"$found")" -lt "$1" ]; do
    port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
    case " $found " in *" $port "*) continue ;; esac
    listens "$port" || found+=" $port"
  done
  echo "$found"
}

# listens PORT: whether something accepts there.
listens() { (exec 8<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# await_ports PORT...: until all accept; false after 15 s.
await_ports() {
  local port tries=0
  for port; do
    until listens "$port"; do
      tries=$((tries + 1))
      [ $tries -lt 750 ] || return 1
      sleep 0.02
    done
  done
}

# One rig at a time looks for free ports and binds them, from here to the end of the script.
lock_ports() {
  exec 9</tmp
  flock -w 60 9 || die "another rig has held its lock on /tmp for a minute"
}

# running PID NAME: whether the process is there, is no zombie and is called NAME.
running() {
  local name state
  [ -n "$1" ] || return 1
  read -r name state < <(sed -E 's/^[0-9]+ \((.*)\) (.).*/\1 \2/' "/proc/$1/stat" 2>/dev/null) || return 1
  [ "$name" = "$2" ] && [ "$state" != Z ]
}

# offspring PID: its descendants.
offspring() {
  local stat line pid parent level next
  declare -A children=()
  for stat in /proc/[0-9]*/stat; do
    line=$(cat "$stat" 2>/dev/null) || continue
    pid=${line%% *}
    read -r _ parent _ <<<"${line##*) }"
    children[$parent]+=" $pid"
  done
  level=${children[$1]:-}
  while [ -n "$level" ]; do
    echo "$level"
    next=
    for pid in $level; do next+=${children[$pid]:-}; done
    level=$next
  done
}

# gone PID...: until none of them is left; false after 5 s.
gone() {
  local pid tries=0
  for pid; do
    while [ -e "/proc/$pid" ] && ! grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status"; do
      tries=$((tries + 1))
      [ $tries -lt 250 ] || return 1
      sleep 0.02
    done
  done
}

# stop PID NAME: TERM, and KILL for what is left of it and its descendants after 5 s.
stop() {
  local all
  running "$1" "$2" || return 0
  all="$1 $(offspring "$1" | xargs)"
  kill -TERM "$1"
  # shellcheck disable=SC2086  # a list of numbers
  gone $all || kill -KILL $all 2>/dev/null || true
}

# crash PID NAME: KILL to it and its descendants at once.
crash() {
  local all
  running "$1" "$2" || return 0
  # Stopped first, so that it can't start another child in between.
  kill -STOP "$1"
  all="$1 $(offspring "$1" | xargs)"
  # shellcheck disable=SC2086  # a list of numbers
  { kill -KILL $all 2>/dev/null || true; gone $all || die "$2 does not die"; }
}

# rig_env DIR: reads what `up` wrote.
rig_env() {
  [ -r "$1/env" ] || die "$1 is no rig: it has no env"
  # shellcheck disable=SC1091  # written by up
  . "$1/env"
}
