#!/bin/sh
# Answers as ethtool 6.1 does, from files of the tree that it lies in: ethtool/INTERFACE/{rx,rx-max,…}. Uses no other program.
set -f
option=$1
interface=$2
shift 2
card=${0%/usr/sbin/ethtool}/ethtool/$interface

refuse() {
    status=$1
    shift
    printf 'netlink error: %s\n' "$@" >&2
    exit "$status"
}
unsupported() { refuse 1 'Operation not supported'; }
value() { # of file $1, or n/a
    value=n/a
    [ -e "$card/$1" ] && read -r value <"$card/$1"
    return 0
}
line() { # $1: label, $2: file
    value "$2"
    printf '%s\t%s\n' "$1" "$value"
}
number() { # $1
    case $1 in
    '' | *[!0-9]*) echo "ethtool: invalid value '$1'" >&2; exit 1 ;;
    esac
}
set_at_most() { # $1: file, $2: number, $3: what is too large, $4: status
    number "$2"
    [ -e "$card/$1" ] || refuse "$4" 'Operation not supported'
    value "$1-max"
    [ "$2" -le "$value" ] || refuse "$4" "requested $3 exceeds maximum (offset 36)" 'Invalid argument'
    echo "$2" >"$card/$1"
}

[ -d "$card" ] || refuse 1 'no device matches name (offset 24)' 'No such device'
case $option in
-g)
    [ -e "$card/rx" ] || unsupported
    printf 'Ring parameters for %s:\nPre-set maximums:\n' "$interface"
    line 'RX:	' rx-max
    printf 'RX Mini:\tn/a\nRX Jumbo:\tn/a\n'
    line 'TX:	' tx-max
    printf 'Current hardware settings:\n'
    line 'RX:	' rx
    printf 'RX Mini:\tn/a\nRX Jumbo:\tn/a\n'
    line 'TX:	' tx
    printf 'RX Buf Len:\t\tn/a\nCQE Size:\t\tn/a\nTX Push:\toff\nTCP data split:\tn/a\n'
    ;;
-G)
    while [ $# -ge 2 ]; do
        set_at_most "$1" "$2" 'ring size' 81
        shift 2
    done
    ;;
-l)
    [ -e "$card/combined" ] || unsupported
    printf 'Channel parameters for %s:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\tn/a\n' "$interface"
    line 'Combined:' combined-max
    printf 'Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\tn/a\n'
    line 'Combined:' combined
    ;;
-L)
    while [ $# -ge 2 ]; do
        set_at_most "$1" "$2" 'channel count' 1
        shift 2
    done
    ;;
-c)
    [ -e "$card/rx-usecs" ] || unsupported
    value adaptive-rx
    printf 'Coalesce parameters for %s:\nAdaptive RX: %s  TX: n/a\n' "$interface" "$value"
    printf 'stats-block-usecs: n/a\nsample-interval: n/a\npkt-rate-low: n/a\npkt-rate-high: n/a\n\n'
    value rx-usecs
    printf 'rx-usecs: %s\nrx-frames: n/a\nrx-usecs-irq: n/a\nrx-frames-irq: n/a\n\n' "$value"
    printf 'tx-usecs: 0\ntx-frames: n/a\ntx-usecs-irq: n/a\ntx-frames-irq: n/a\n\n'
    printf 'rx-usecs-low: n/a\nrx-frame-low: n/a\ntx-usecs-low: n/a\ntx-frame-low: n/a\n\n'
    printf 'rx-usecs-high: n/a\nrx-frame-high: n/a\ntx-usecs-high: n/a\ntx-frame-high: n/a\n\n'
    printf 'CQE mode RX: n/a  TX: n/a\n\n'
    ;;
-C)
    while [ $# -ge 2 ]; do
        [ -e "$card/$1" ] || unsupported
        [ "$1" = adaptive-rx ] || number "$2"
        echo "$2" >"$card/$1"
        shift 2
    done
    ;;
-k)
    printf 'Features for %s:\n' "$interface"
    set +f
    for file in "$card"/features/*; do
        [ -e "$file" ] || continue
        value "features/${file##*/}"
        printf '%s: %s\n' "${file##*/}" "$value"
    done
    ;;
-K)
    while [ $# -ge 2 ]; do
        [ -e "$card/features/$1" ] || refuse 92 'bit name not found (offset 52)' 'Operation not supported'
        value "features/$1"
        case $value in
        "$2" | "$2 [fixed]") ;;
        *fixed*)
            printf 'Could not change any device features\n' >&2
            printf 'Actual changes:\n%s: %s [requested %s]\n' "$1" "${value% *}" "$2"
            exit 1
            ;;
        *) echo "$2" >"$card/features/$1" ;;
        esac
        shift 2
    done
    ;;
*)
    echo "ethtool: bad command line argument(s)" >&2
    exit 1
    ;;
esac
