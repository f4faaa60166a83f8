#!/bin/sh
# load-modules NAME...: loads modules and what they need; prints the names of those refused.
for wanted; do
    grep -qx "$wanted" /modules/built-in && continue
    [ -e "/modules/$wanted.ko" ] || { echo "$wanted"; continue; }
    for name in $(cat "/modules/$wanted.needs") "$wanted"; do
        [ -d "/sys/module/$name" ] || insmod "/modules/$name.ko" || echo "$name"
    done
done
