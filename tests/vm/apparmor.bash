# shellcheck shell=bash disable=SC2016 # what is in single quotes is for the shells of those users
# What `guest` runs where AppArmor has profiles. Ubuntu's kernel refuses user namespaces to every program without a
# profile, by a switch that Debian's has not; both have the rule `userns` of profiles. Here the profile `everybody`
# is what being without one is on Ubuntu: it allows all but that, and who starts a program with a profile gets it.
# Under `stripped` user namespaces can be had and no capability in them, which is what the profile
# `unprivileged_userns` of Ubuntu's does.
readonly ALL_ELSE='file rwlkm /**, pix /**, network, signal, ptrace, mqueue, mount, umount, pivot_root,'
readonly SWITCH=apparmor_restrict_unprivileged_userns

# profile NAME RULES: loaded by the real parser.
profile() {
    printf 'abi <abi/4.0>,\ninclude <tunables/global>\nprofile %s flags=(attach_disconnected) {\n%s %s\n}\n' "$1" \
        "$ALL_ELSE" "$2" >"/run/$1.profile"
    apparmor_parser -r "/run/$1.profile" || result 1 "the profile $1 is loaded"
}

# as WHO COMMAND…: root, `dev`, or `dev` under the profile of that name.
as() {
    local who=$1
    shift
    if [ "$who" = root ]; then
        env -i PATH="$PATH" HOME=/root LANG=C.UTF-8 USER=root "$@"
    else
        (
            echo "$BASHPID" >"$GROUPS_AT/dev/session/cgroup.procs"
            exec setpriv --reuid=1000 --regid=1000 --clear-groups env -i PATH="$PATH" HOME=/home/dev LANG=C.UTF-8 \
                USER=dev sh -c '[ "$0" = dev ] || echo "exec $0" >/proc/self/attr/apparmor/exec; exec env "$@"' "$who" "$@"
        )
    fi
}

# What is refused, how it is told, and what can be had meanwhile.
refused_under() {
    local who=$1
    enter "$who"
    expect "$who" 125 '^hint: let AppArmor allow user namespaces to aj:$' "exec names AppArmor" /vm/aj exec -- true
    expect "$who" 125 'profile aj /vm/aj flags=\(unconfined\) \{' "with the text of a profile" /vm/aj exec -- true
    expect "$who" 125 "the profile .$who. lets no program" "and the profile that refuses" /vm/aj exec -- true
    expect "$who" 69 $'fail\tapparmor\tthe profile `'"$who" "doctor names it" /vm/aj doctor
    expect "$who" 69 '^fix: let AppArmor allow user namespaces to aj:$' "doctor has the way out" /vm/aj doctor
    expect "$who" 69 '"mode": ?"lite"' "doctor: what is left" /vm/aj doctor --json
    expect "$who" 0 '^in lite$' "the mode without namespaces" /vm/aj exec --mode lite -- echo in lite
    expect "$who" 125 'hint: .*--mode lite' "nothing weaker is taken unasked" /vm/aj exec -- true
    expect "$who" 125 'apparmor_parser -r' "nested is refused alike" /vm/aj exec --mode nested -- true
}

# The commands that `aj exec` prints for the user, as they are; `sudo` is root already.
printed_commands() {
    as everybody AJ_STATE_DIR=/home/dev/w/state /vm/aj exec -- true 2>&1 |
        sed -n '/^hint: let AppArmor/,/apparmor_parser -r/{/^hint:/!p}'
}

apparmor() {
    profile everybody 'capability,'
    profile stripped 'userns,'
    enter dev
    expect dev 0 '' "without a profile all works" /vm/aj exec -- true
    for who in everybody stripped; do refused_under "$who"; done
    enter everybody
    # Ubuntu's switch, which is a file where the kernel's settings are.
    mkdir /run/settings
    cp /proc/sys/kernel/* /run/settings/ 2>/dev/null
    echo 1 >"/run/settings/$SWITCH"
    mount --bind /run/settings /proc/sys/kernel
    expect everybody 69 $'fail\tapparmor\tkernel.'"$SWITCH = 1" "doctor reads Ubuntu's switch" /vm/aj doctor
    expect everybody 125 "^hint: or allow user namespaces for every program: .sudo sysctl -w kernel.$SWITCH=0" \
        "exec names it, after the profile" /vm/aj exec -- true
    umount /proc/sys/kernel
    printed_commands >/run/commands
    cat /run/commands
    bash -c "sudo() { \"\$@\"; }; $(cat /run/commands)"
    result $? "the commands that are printed"
    grep -q '^aj ' /sys/kernel/security/apparmor/profiles
    result $? "load a profile"
    for who in everybody stripped; do
        enter "$who"
        expect "$who" 0 'full mode works here' "profile loaded: doctor" /vm/aj doctor
        expect "$who" 0 '"mode": ?"full"' "profile loaded: the full mode" \
            sh -c '/vm/aj exec --require full -- true && /vm/aj jail show --json @'
        expect "$who" 3 '^aj \(unconfined\)$' "profile loaded: the jail is under it" \
            /vm/aj exec -- sh -c 'cat /proc/self/attr/current; exit 3'
        expect "$who" 0 '^A new$' "profile loaded: diff and apply" \
            sh -c 'rm -f new; /vm/aj exec -- sh -c "echo 1 >new" && test ! -e new && /vm/aj diff && /vm/aj apply && cat new'
        expect "$who" 137 'memory' "profile loaded: limits" /vm/aj exec --mem 64M -- sh -c 'head -c 200M /dev/zero | tail'
    done
    tests everybody "profile loaded:" escape::mounts::nothing_can escape::processes::processes_of \
        escape::files::no_device jail::privileges
    # It is for that program at that place.
    enter everybody
    cp /vm/aj /home/dev/other
    expect everybody 125 'profile aj /home/dev/other flags' "another copy is not meant" /home/dev/other exec -- true
    apparmor_parser -R /etc/apparmor.d/aj
    expect everybody 125 'apparmor_parser -r' "without the profile it is as before" /vm/aj exec -- true
    profile everybody 'userns, capability,'
    expect everybody 0 '^everybody \(enforce\)$' "the other way: the rules in the profile around" \
        /vm/aj exec -- cat /proc/self/attr/current
}
