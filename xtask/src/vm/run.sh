# The suite, by each way into the kernel: results between markers on stdout. Runs in an emulated machine, and natively in a root
# of its own. /suite/before.sh prepares the machine, /suite/requests/ROW holds one request a line.

echo "@@lastwords kernel $(uname -r)"
sh /suite/before.sh

# ended NAME CODE: what a part said on stderr, and its end.
ended() {
    echo
    echo "@@lastwords stderr"
    tail -n 15 /tmp/err
    echo "@@lastwords end $1 $2"
}

# check ROW WAY: whether this way in is to be had; true when its probes run.
check() {
    echo "@@lastwords part check-$1"
    # Some 130 functions one after the other take half a minute on an emulated processor that is alone, and it may not be.
    timeout -s KILL 180 lastwords-agent check --way-in "$2" -o json > /tmp/out 2> /tmp/err
    code=$?
    cat /tmp/out
    ended "check-$1" $code
    grep -q "\"way_in\": \"$2\"" /tmp/out
}

# suite ROW WAY
suite() {
    echo "@@lastwords part $1"
    lastwords-agent try-each --way-in "$2" < "/suite/requests/$1" 2> /tmp/err
    ended "$1" $?
}

asked() {
    [ -e "/suite/requests/$1" ]
}

asked fexit && check fexit fexit && suite fexit fexit
if asked sys-exit; then
    if check sys-exit tp_btf; then
        suite sys-exit tp_btf
    elif check sys-exit raw_tracepoint; then
        suite sys-exit raw_tracepoint
    fi
fi
echo "@@lastwords finished"
