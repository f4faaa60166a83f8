#!/bin/busybox sh
# The first program of the guest. It mounts what programs expect, loads the modules that the host
# asked for on the kernel command line, and then does what comes through the agent's port until the
# port is closed: see agent.rs.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin HOME=/root TERM=linux LC_ALL=C
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
exec </dev/console >/dev/console 2>&1
ifconfig lo 127.0.0.1 up

modules=
shell=
for word in $(cat /proc/cmdline); do
    case $word in
        testbed.modules=*) modules=${word#*=} ;;
        testbed.shell) shell=yes ;;
    esac
done
refused=$(load-modules $(echo "$modules" | tr , ' '))

if [ -n "$shell" ]; then
    cat /etc/motd
    setsid cttyhack sh
    poweroff -f
fi

port=
for candidate in /sys/class/virtio-ports/*; do
    [ "$(cat "$candidate/name")" = memtide.agent ] && port=/dev/${candidate##*/}
done
[ -n "$port" ] || { echo "no port for the agent"; poweroff -f; }
exec 3<>"$port"
echo "ready $refused" >&3
mkdir -p /run/agent /run/background
while read -r id total script limit <&3; do
    # Names of its own: what an earlier script left running may still write to its output.
    here=/run/agent/$id
    input=/dev/null
    if [ "$total" = "$script" ]; then
        head -c "$total" <&3 >"$here.script"
    else
        input=$here.input
        head -c "$total" <&3 >"$here.payload"
        head -c "$script" "$here.payload" >"$here.script"
        tail -c +$((script + 1)) "$here.payload" >"$input"
    fi
    # A session of its own, so that all that it started can be killed with it.
    setsid timeout -s KILL "$limit" sh "$here.script" \
        <"$input" >"$here.stdout" 2>"$here.stderr" 3>&- &
    leader=$!
    wait $leader
    status=$?
    [ $status = 137 ] && kill -KILL -$leader 2>/dev/null
    echo $id $status $(stat -c %s "$here.stdout" "$here.stderr") >&3
    cat "$here.stdout" "$here.stderr" >&3
    rm -f "$here".*
done
poweroff -f
