//! A command as one line of text.

/// Arguments as one line that a shell would read back: for lists and for searching. Arguments that
/// hold no special characters stay bare. The caller makes them printable.
pub fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./@%^".contains(c) || !c.is_ascii();
    let mut line = String::new();
    for arg in argv {
        if !line.is_empty() {
            line.push(' ');
        }
        if !arg.is_empty() && arg.chars().all(plain) {
            line.push_str(arg);
        } else {
            line.push('\'');
            line.push_str(&arg.replace('\'', "'\\''"));
            line.push('\'');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_would_read_it_back() {
        let line = |argv: &[&str]| command_line(&argv.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["npm", "install", "--prefix=/a"]), "npm install --prefix=/a");
        assert_eq!(line(&["sh", "-c", "echo $HOME; it's", ""]), r"sh -c 'echo $HOME; it'\''s' ''");
        assert_eq!(line(&["é", "*"]), "é '*'");
        assert_eq!(line(&[]), "");
    }
}
