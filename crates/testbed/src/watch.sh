# Runs QEMU until it ends, or until standard input is closed, which happens however the test ends.
# $1: the guest's folder, removed when the test is gone. The rest: QEMU's command line.
folder=$1
shift
exec 3<&0
"$@" </dev/null >"$folder/qemu" 2>&1 3<&- &
qemu=$!
(
    # A line ends QEMU alone; the pipe's end also what it left.
    if read -r _ <&3; then
        [ -e "$folder/ended" ] || kill -KILL $qemu
        read -r _ <&3
    fi
    [ -e "$folder/ended" ] || kill -KILL $qemu
    rm -rf "$folder"
) &
wait $qemu
status=$?
: >"$folder/ended"
exit $status
