//! Debuggers and tracers of children, and databases.

use super::project::{Project, has};

#[test]
fn strace_follows_a_child() {
    if !has("strace") {
        return;
    }
    let p = Project::new();
    p.same("strace -f -o log -e trace=execve,exit_group sh -c '/bin/true; exit 3'; echo $?; grep -c execve log; grep -c 'exit_group(3)' log; strace -c -o /dev/null true; echo $?; (sleep 5 & strace -o log2 -p $! & wait %2 & sleep 0.3; kill %1; wait) 2>/dev/null; echo attached");
}

#[test]
fn gdb_runs_stops_and_shows() {
    if !(has("gdb") && has("gcc")) {
        return;
    }
    let p = Project::new();
    p.write("a.c", "#include <stdio.h>\nint twice(int x) { return x * 2; }\nint main(void) { int y = twice(21); printf(\"%d\\n\", y); return 0; }\n");
    let ran = p.same("gcc -g -O0 a.c -o a && gdb -nx --batch -ex 'break twice' -ex run -ex bt -ex 'print x' -ex finish -ex continue ./a 2>/dev/null | grep -v 'debuginfo\\|Thread\\|^Using host\\|^\\[Inf' | sed 's/0x[0-9a-f]*/ADDR/g'");
    assert!(ran.stdout.contains("$1 = 21") && ran.stdout.contains("\n42\n"), "{ran:#?}");
    // Address randomisation is off under a debugger: the same address twice.
    let twice = "for i in 1 2; do gdb -nx --batch -ex 'break main' -ex run -ex 'print $pc' ./a 2>/dev/null | grep '^\\$1'; done | uniq | wc -l";
    p.outside("gcc -g -O0 -fPIE -pie a.c -o a");
    assert_eq!(p.inside(twice), "1\n");
}

#[test]
fn valgrind_finds_a_leak() {
    if !(has("valgrind") && has("gcc")) {
        return;
    }
    let p = Project::new();
    p.write(
        "leak.c",
        "#include <stdlib.h>\nint main(void) { volatile char *p = malloc(77); p = 0; return 0; }\n",
    );
    let ran = p.same("gcc -g leak.c -o leak && valgrind --quiet --leak-check=full --error-exitcode=9 ./leak 2>&1 | grep -c '77 bytes'");
    assert_eq!(ran.stdout, "1\n");
}

#[test]
fn sqlite_in_wal_mode_with_many_writers() {
    if !has("sqlite3") {
        return;
    }
    let p = Project::new();
    p.outside("sqlite3 old.db 'pragma journal_mode=wal; create table t(a); insert into t values(1);'");
    p.same(
        "sqlite3 old.db 'insert into t values(2); select * from t;'; sqlite3 new.db 'pragma journal_mode=wal; create table t(a);'; \
         for i in 1 2 3 4 5 6; do sqlite3 -cmd '.timeout 20000' new.db \"insert into t values($i);\" & done; wait; \
         sqlite3 new.db 'select sum(a), count(*) from t; pragma integrity_check;'; ls new.db*",
    );
}

#[test]
fn servers_talk_on_loopback_and_on_sockets() {
    let p = Project::new();
    if !has("python3") {
        return;
    }
    let said = p.inside(
        "/usr/bin/python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 & echo served > file; \
         for i in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null && break; sleep 0.1; done; \
         /usr/bin/python3 -c \"import urllib.request as u; print(u.urlopen('http://localhost:8000/file').read().decode().strip())\"; \
         (exec 3<>/dev/tcp/192.0.2.1/80) 2>&1 | grep -o 'Network is unreachable' | head -1",
    );
    assert_eq!(said, "served\nNetwork is unreachable\n");
}
