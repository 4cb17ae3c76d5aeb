//! Terminals of the jail's own: tmux, script, many at once.

use super::project::{Project, has};

#[test]
fn tmux_keeps_sessions_inside() {
    if !has("tmux") {
        return;
    }
    let p = Project::new();
    let said = p.inside(
        r#"
        export TERM=xterm-256color; tmux -f /dev/null new-session -d -s work -x 80 -y 24 'PS1=ready; export PS1; exec bash --norc'
        for i in $(seq 50); do tmux capture-pane -p -t work | grep -q ready && break; sleep 0.1; done
        tmux send-keys -t work 'echo "in $(tput cols)x$(tput lines)"; tty | cut -c1-9' Enter
        for i in $(seq 50); do tmux capture-pane -p -t work | grep -q '^in ' && break; sleep 0.1; done
        tmux split-window -t work; tmux list-panes -t work | wc -l; tmux capture-pane -p -t work:0.0 | grep -A1 '^in '
        tmux kill-server; echo $?
        "#,
    );
    assert_eq!(said, "2\nin 80x24\n/dev/pts/\n0\n");
}

#[test]
fn job_control_signals_and_window_sizes_on_a_terminal_inside() {
    if !(has("python3") && has("script")) {
        return;
    }
    let p = Project::new();
    p.write(
        "main.py",
        r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
def open_one(argv):
    pid, fd = pty.fork()
    if pid == 0: os.execvp(argv[0], argv)
    return pid, fd
def read_until(fd, word):
    text, end = b'', time.time() + 10
    while word not in text and time.time() < end:
        if select.select([fd], [], [], 0.5)[0]:
            try: text += os.read(fd, 4096)
            except OSError: break
    return text
pid, fd = open_one(['bash', '--norc', '--noprofile', '-i'])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 111, 0, 0))
os.write(fd, b"PS1='>'; stty size; tty >/dev/null && echo is-a-tty\n"); text = read_until(fd, b'\nis-a-tty'); print(b'33 111' in text)
os.write(fd, b'sleep 60\n'); time.sleep(0.5); os.write(fd, b'\x1a'); print(b'Stopped' in read_until(fd, b'Stopped'))
os.write(fd, b'bg; kill %1; wait %1; echo over $?\n'); print(b'over 143' in read_until(fd, b'over 143'))
os.write(fd, b'sleep 60\n'); time.sleep(0.5); os.write(fd, b'\x03'); os.write(fd, b'echo code $?\n'); print(b'code 130' in read_until(fd, b'code 130'))
os.write(fd, b'exit 4\n'); read_until(fd, b'never'); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); os.close(fd)
many = [open_one(['sh', '-c', 'tty; exec sleep 60']) for _ in range(40)]
names = [read_until(fd, b'\n').strip() for _, fd in many]; print(len(set(names)), all(n.startswith(b'/dev/pts/') for n in names))
for pid, fd in many: os.kill(pid, signal.SIGKILL); os.close(fd); os.waitpid(pid, 0)
print(os.path.exists('/dev/ptmx'), os.ttyname(pty.openpty()[1])[:9])
"#,
    );
    let ran = p.same(
        "/usr/bin/python3 main.py; script -qec 'stty -a | grep -c speed; echo typed' /dev/null | tr -d '\\r'",
    );
    assert!(ran.stdout.starts_with("True\nTrue\nTrue\nTrue\n4\n40 True\nTrue /dev/pts/\n"), "{ran:#?}");
}
