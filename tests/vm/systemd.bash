# shellcheck shell=bash disable=SC2016 # what is in single quotes is for the shells of those users
# What `guest` runs where systemd is pid 1 and the user `dev` has a service manager of his own: how limits are held
# for programs that come to be in different ways. `service` is a unit of the system's that runs as `dev` (a runner
# of jobs), `session` a login (ssh), `scope` a unit of the user's, `delegated` one that may make groups itself, `leaf`
# the same with its processes in one of them.
readonly LIMITS='--mem 64M --pids 20 --cpus 0.5'

# as WHO COMMAND…: root, or `dev` as his processes come to be.
as() {
    local who=$1 runner=()
    shift
    case $who in
        root) env -i PATH="$PATH" HOME=/root LANG=C.UTF-8 USER=root "$@" ;;
        session) su -l dev -s /bin/bash -c "$(printf 'cd %q && exec env' "$PWD")$(printf ' %q' "$@")" ;;
        service | scope | delegated | leaf)
            [ "$who" = service ] || runner=(systemd-run --user --scope --quiet)
            [ "$who" != delegated ] || runner+=(-p Delegate=yes)
            [ "$who" != leaf ] || runner+=(-p Delegate=yes sh -c 'group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
                mkdir "$group/leaf" && echo $$ >"$group/leaf/cgroup.procs" && exec "$@"' sh)
            setpriv --reuid=1000 --regid=1000 --clear-groups env -i PATH="$PATH" HOME=/home/dev LANG=C.UTF-8 \
                USER=dev XDG_RUNTIME_DIR=/run/user/1000 "${runner[@]}" env "$@"
            ;;
    esac
}

# No unit, group or process of a jail's, a moment after it ended.
nothing_left() {
    local left i
    for i in 1 2 3 4 5 6 7 8 9 10; do
        left=$(
            find /sys/fs/cgroup -name 'aj-*'
            systemctl --no-legend --plain --all list-units 'aj-*'
            as service systemctl --user --no-legend --plain --all list-units 'aj-*'
            pgrep -ax aj
            pgrep -ax sleep
        )
        [ -n "$left" ] || break
        [ "$i" = 10 ] || busybox sleep 1
    done
    [ -z "$left" ]
    result $? "$1: nothing is left"
    [ -z "$left" ] || printf '    %s\n' "$left"
}

# The limits really hold, by what is said to hold them.
held() {
    local who=$1 by=$2
    expect "$who" 0 "\"limits_by\": ?\"$by\"" "held by $by" sh -c "/vm/aj exec $LIMITS -- true && /vm/aj jail show --json @"
    expect "$who" 137 '"status": ?"oom"' "memory" \
        sh -c '/vm/aj exec --mem 64M -- sh -c "head -c 200M /dev/zero | tail"; e=$?; /vm/aj jail show --json @; exit $e'
    # The other ways to a scope differ no more.
    [ "$who" != service ] && [ "$who" != scope ] && [ "$who" != delegated ] || return 0
    expect "$who" 3 'refused at the limit of 8 processes' "processes" \
        /vm/aj exec --mem 64M --pids 8 -- sh -c '(for i in 1 2 3 4 5 6 7 8 9; do sleep 2 & done) 2>/dev/null; exit 3'
    expect "$who" 0 '^throttled$' "processor time" bash -c '
        /vm/aj exec --cpus 0.1 --timeout 60s -- sh -c "i=0; while [ \$i -lt 100000 ]; do i=\$((i+1)); done; sleep 2" &
        for i in $(seq 50); do
            group=$(find /sys/fs/cgroup -name "aj-*.[0-9]*") && [ -n "$group" ] && grep -q "^nr_throttled [1-9]" "$group/cpu.stat" &&
                grep -q "^10000 100000" "$group/cpu.max" && echo throttled && break
            sleep 0.3
        done
        wait'
}

systemd() {
    local who part asked
    chown -R 1000:1000 /home/dev
    # Single parts of this. What the kernel was told is not in our environment.
    asked=$(sed -n 's/.* VM_TESTS=\([^ ]*\).*/\1/p' /proc/cmdline)
    if [ -n "$asked" ]; then
        for part in ${asked//,/ }; do "$part"; done
        return
    fi
    for who in service session scope delegated leaf root; do
        enter "$who"
        as "$who" cat /proc/self/cgroup
        held "$who" "$([ "$who" = leaf ] && echo cgroup2 || echo systemd-scope)"
        nothing_left "$who"
    done
    for who in service session; do
        enter "$who"
        expect "$who" 0 'systemd-scope holds memory, cpu, pids; no io: the service manager of this user' \
            "doctor: what holds limits" sh -c '/vm/aj doctor | tr -s "\n " " "'
        expect "$who" 0 'user@.service.d/aj.conf' "doctor: how to have the rest" /vm/aj doctor
        expect "$who" 125 '`--io-read` cannot be enforced here.*does not have it to hand on' "io was not handed on" \
            /vm/aj exec --io-read 1M -- true
        expect "$who" 125 '^hint: let root.s service manager hand everything on' "and how to have it" \
            /vm/aj exec --io-read 1M -- true
        expect "$who" 0 'is not enforced' "best effort does without" /vm/aj exec --io-read 1M --mem 64M --best-effort -- true
        expect "$who" 0 '^$' "kill -9 of aj" sh -c \
            "/vm/aj exec $LIMITS -- sleep 4242 & sleep 3; kill -9 \$!; sleep 2; pgrep -ax sleep; true"
        nothing_left "$who, kill -9"
    done
    others_come_and_go
    enter session
    expect session 0 '^20 in scopes$' "twenty at once" bash -c '
        for i in $(seq 20); do /vm/aj exec --mem 64M -- sleep 1.25 & done
        for p in $(jobs -p); do wait "$p" || echo failed; done
        of_these=$(/vm/aj jail list --search "sleep 1.25" -q)
        for id in $of_these; do /vm/aj jail show --json "$id"; done | grep -Eo "\"limits_by\": ?\"systemd-scope\"" >held
        echo "$(wc -l <held) in scopes"'
    nothing_left "twenty at once"
    watched
    no_manager
}

# Units that come and go beside a jail: systemd takes a controller from a group of its own when no unit in there
# needs it any more, and the limits of all that is in there with it.
others_come_and_go() {
    local who
    enter service
    # What that is about, with a group that is made in there.
    expect service 0 '^50000 100000 and then none$' "systemd takes a controller away" bash -c '
        slice=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice
        echo +cpu >"$slice/cgroup.subtree_control"
        mkdir "$slice/mine"
        echo "50000 100000" >"$slice/mine/cpu.max"
        before=$(cat "$slice/mine/cpu.max")
        systemd-run --user --quiet --wait -p CPUQuota=50% true
        systemctl --user daemon-reload
        sleep 1
        echo "$before and then $(cat "$slice/mine/cpu.max" 2>/dev/null || echo none)"
        rmdir "$slice/mine"'
    for who in scope delegated root; do
        enter "$who"
            expect "$who" 0 '^10000 100000 then 10000 100000$' "units that come and go" bash -c '
            manager=--user
            [ "$(id -u)" != 0 ] || manager=--system
            /vm/aj exec --cpus 0.1 -- sleep 4242 &
            sleep 3
            group=$(find /sys/fs/cgroup -name "aj-*.[0-9]*")
            before=$(cat "$group/cpu.max")
            systemd-run "$manager" --quiet --wait -p CPUQuota=50% -p MemoryMax=1G true
            systemd-run "$manager" --quiet --scope -p CPUQuota=50% true
            systemctl "$manager" daemon-reload
            sleep 1
            echo "$before then $(cat "$group/cpu.max")"
            kill %1
            wait'
        nothing_left "$who, after others"
    done
}

# What looks at a jail and holds it from outside finds the group of its scope.
watched() {
    enter session
    expect session 0 '^all seen$' "top, pause, resume, stats" bash -c '
        /vm/aj exec --mem 64M --pids 20 -- sh -c "while :; do sleep 0.1; done" &
        trap "kill $! 2>/dev/null" EXIT
        sleep 3
        /vm/aj top --once | grep -q cgroup2 || exit 10
        /vm/aj pause @ --json | grep -q cgroup.freeze || exit 11
        group=$(find /sys/fs/cgroup -name "aj-*.[0-9]*")
        [ "$(wc -l <<<"$group")" = 1 ] || exit 12
        grep -q "^frozen 1" "$group/cgroup.events" || exit 13
        /vm/aj top --once | grep -q cgroup2 || exit 14
        /vm/aj resume @ || exit 15
        grep -q "^frozen 0" "$group/cgroup.events" || exit 16
        kill $! || exit 17
        wait
        /vm/aj stats @ --json | grep -q "\"runs\": *1" || exit 18
        echo all seen'
    nothing_left "watched"
}

# A manager that does not answer, one that cannot put processes of others into its scopes, and none.
no_manager() {
    enter session
    systemctl kill --kill-whom=main -s STOP user@1000.service
    expect service 125 'it needs a cgroup, and systemd makes no scope: .*ETIMEDOUT' "a manager that does not answer" \
        /vm/aj exec --mem 64M -- touch ran
    systemctl kill --kill-whom=main -s CONT user@1000.service
    expect service 1 '' "the command was not started" test -e ran
    busybox sleep 2
    nothing_left "a manager that does not answer"
    rm -f /var/lib/systemd/linger/dev
    systemctl stop user@1000.service
    enter service
    expect service 125 'it needs a cgroup, and no group of this machine.s may be changed by this user' \
        "no manager: a limit is refused" /vm/aj exec --mem 64M -- true
    expect service 125 '^hint: .*loginctl enable-linger 1000' "no manager: and how to have one" /vm/aj exec --mem 64M -- true
    expect service 0 '"limits_by": ?"rlimit\+poll"' "no manager: best effort" \
        sh -c '/vm/aj exec --mem 64M --best-effort -- true && /vm/aj jail show --json @'
    expect service 0 'loginctl enable-linger' "no manager: doctor" /vm/aj doctor
    # What the hints say, as root.
    mkdir -p /etc/systemd/system/user@.service.d
    printf '[Service]\nDelegate=yes\n' >/etc/systemd/system/user@.service.d/aj.conf
    systemctl daemon-reload
    loginctl enable-linger 1000
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        [ ! -S /run/user/1000/systemd/private ] || break
        busybox sleep 1
    done
    enter session
    expect session 0 'systemd-scope holds memory, cpu, pids, io' "all handed on: doctor" \
        sh -c '/vm/aj doctor | tr -s "\n " " "'
    # By number: nobody has made links in /dev/block here.
    expect session 0 '"limits_by": ?"systemd-scope' "all handed on: io" \
        sh -c '/vm/aj exec --io-read 1M -- true && /vm/aj jail show --json @'
    nothing_left "all handed on"
}
