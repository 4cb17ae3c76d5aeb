//! Shells and the core utilities.

use super::project::{Project, has};

#[test]
fn bash_features_that_need_dev_and_proc() {
    Project::new().same(
        r#"
        diff <(printf 'a\nb\n') <(printf 'a\nc\n'); echo "diff $?"
        while read -r line; do echo "got $line"; done < <(seq 3)
        printf 'to a substitution\n' > >(tr a-z A-Z); wait $!
        cat <<HERE
here-document in $(basename "$PWD")
HERE
        cat <<< 'here-string'
        echo 'by name' > /dev/stdout; echo 'error by name' > /dev/stderr
        echo 'by number' > /dev/fd/1
        echo piped | cat /dev/stdin
        echo 'self' | cat /proc/self/fd/0
        exec 7>&1; echo 'seven' >&7; echo 'seven by path' > /dev/fd/7
        coproc { tr a-z A-Z; }; echo hello >&"${COPROC[1]}"; eval "exec ${COPROC[1]}>&-"; cat <&"${COPROC[0]}"; wait
        (exit 3); echo "exit $?"
        kill -TERM $BASHPID & wait $!; echo "signal $?"
        ( ulimit -c; )
        trap 'echo trapped' USR1; kill -USR1 $$; 
        set -o pipefail; false | true; echo "pipefail $?"
        : | sleep 0; echo "${PIPESTATUS[@]}"
        "#,
    );
}

#[test]
fn job_control_works_without_a_terminal() {
    let ran = Project::new().same(
        r#"
        set -m
        sleep 30 & a=$!; sleep 30 & b=$!; jobs -r | wc -l
        kill -STOP -$a; kill -CONT -$a; { kill -- -$a; wait $a; } 2>/dev/null; echo $?
        { kill -- -$b; wait $b; } 2>/dev/null; echo $?
        bash -c 'kill -TERM 0'; echo "group $?"
        "#,
    );
    assert!(ran.stdout.contains("143"), "{ran:?}");
}

#[test]
fn standard_streams_are_the_commands_byte_for_byte() {
    let p = Project::new();
    let bytes: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    std::fs::write(p.dir().join("in"), &bytes).unwrap();
    for program in ["cat", "tee /dev/stderr", "dd bs=7777 status=none", "head -c 12345; cat >/dev/null"] {
        let mut command = p.command(crate::common::aj());
        command.args(["exec", "--", "sh", "-c", program]);
        command.stdin(std::fs::File::open(p.dir().join("in")).unwrap());
        let got = command.output().unwrap();
        let want = if program.starts_with("head") { &bytes[..12345] } else { &bytes[..] };
        assert!(got.stdout == want, "{program}: {} bytes", got.stdout.len());
        if program.starts_with("tee") {
            assert!(got.stderr.starts_with(&bytes), "{program}: {} bytes on stderr", got.stderr.len());
        }
    }
}

#[test]
fn core_utilities_do_the_same() {
    let p = Project::new();
    p.outside(
        "mkdir -p d/e; echo one > d/one; echo two > d/e/two; ln -s one d/link; chmod 751 d/e; \
         touch -d '2001-02-03 04:05:06.123456789' d/one; mkfifo d/pipe; printf x > 'd/a b'",
    );
    p.same(
        r#"
        cp -a d copy && diff -r --no-dereference d copy; stat -c '%n %A %s %h %F %y' copy/one copy/link copy/e
        mv d/e moved && ls -R d moved; mv moved /tmp/away && mv /tmp/away back && cat back/two
        ln -s /nowhere dangling; readlink dangling; readlink -f d/link | sed "s|$PWD||"; realpath --relative-to=. d/link
        touch -d @1 d/one; stat -c %Y d/one; chmod 600 d/one; echo n > d/n; ln d/n d/hard; chmod 640 d/n; stat -c '%a %h' d/one d/hard
        [ d/n -ef d/hard ] && echo same
        for i in $(seq 20000); do echo "$((i * 7919 % 20011))"; done | sort -n -S 100K | sha256sum
        mktemp -d >/dev/null && mktemp -p . t.XXXXXX | sed 's/\..*//'
        truncate -s 1M sparse; stat -c '%s %b' sparse; fallocate -l 4096 full && stat -c %s full
        install -D -m 750 d/one x/y/z && stat -c %a x/y/z
        rm -r d; ls d; echo "gone $?"; mkdir d; ls -A d
        df . >/dev/null && df /tmp >/dev/null && echo df
        tar -c back x | tar -t | sort; echo payload | gzip | gunzip; find . -newer back -name 'x*' | sort
        split -n 3 -d back/two part && cat part*; shred -u full && ls full
        timeout 0.1 sleep 5; echo "timeout $?"; nice -n 5 nice; nohup true 2>/dev/null; stdbuf -oL echo line
        yes | head -n 100000 | wc -l; seq 100000 | tail -n 1; sync; pwd -P | sed 's|.*/||'
        "#,
    );
}

#[test]
fn sort_spills_to_the_jails_own_tmp() {
    let p = Project::new();
    let host = std::fs::read_dir("/tmp").unwrap().count();
    p.inside(
        "echo $TMPDIR; seq 300000 | sort -R -S 200K -T \"$TMPDIR\" | wc -l | grep -x 300000; ls -A /tmp",
    );
    // Other tests use /tmp as well: only what `sort` makes counts.
    let left: Vec<_> = std::fs::read_dir("/tmp")
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("sort"))
        .collect();
    assert!(left.is_empty(), "{left:?} of {host}");
}

#[test]
fn perl_awk_sed_and_editors() {
    let p = Project::new();
    p.write("text", "alpha\nbeta\ngamma\n");
    p.same(
        "awk '{ print NR, toupper($0) | \"sort -r\" }' text; sed -i.bak 's/a/A/g' text && cat text text.bak",
    );
    if has("perl") {
        p.same(
            r#"perl -MPOSIX -MSocket -MFcntl=:flock -MIO::Select -e '
                socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die $!;
                my $pid = fork // die; if (!$pid) { syswrite $b, "child\n"; POSIX::_exit(7) }
                print scalar <$a>; waitpid $pid, 0; print $? >> 8, "\n";
                open my $f, ">", "locked"; flock($f, LOCK_EX) or die; print "locked\n";
                $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select undef, undef, undef, 2;
                print -t STDIN ? "tty" : "no tty", "\n"; print join(",", sort glob("te*")), "\n"'"#,
        );
    }
    if has("vim") {
        p.same("vim -es -u NONE -c '%s/beta/BETA/' -c wq text; cat text");
    }
}
