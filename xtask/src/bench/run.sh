#!/bin/busybox sh
# One part for each that is attached; the host appends them.

# part NAME COMMAND…: its output between two markers, then its exit code and what it said on stderr. Its time is not limited here: by
# this machine's clock a container grows up in an instant of the host's.
part() {
    name=$1
    shift
    echo "@@lastwords part $name"
    "$@" > /tmp/out 2> /tmp/err
    code=$?
    cat /tmp/out
    echo "@@lastwords stderr"
    tail -n 15 /tmp/err
    echo "@@lastwords end $name $code"
}

