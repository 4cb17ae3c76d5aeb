//! Taking the credentials out of a git configuration file. Pure.
//!
//! Users' and passwords in URLs, wherever they stand (`remote.*.url`, the name of a section
//! `[url "https://token@host/"]`, a proxy, a comment), tokens in their queries (`?private_token=`), headers
//! that are sent along
//! (`http.*.extraHeader`, where CI systems put a token), passwords of mail accounts, and commands of
//! credential helpers that say a password. Everything else stays byte for byte.

use crate::policy::environment::looks_like_secret;

/// How names of settings and of parameters end whose value is a credential.
const ENDS: [&str; 7] = ["password", "passwd", "passphrase", "token", "secret", "apikey", "api-key"];
/// Of parameters of a URL alone: a setting of such a name (`signingKey`) names a file or says yes.
const PARAMETER_ENDS: [&str; 5] = ["key", "pwd", "signature", "credential", "credentials"];
/// Parameters whose name is this as a whole.
const PARAMETERS: [&str; 6] = ["auth", "authorization", "jwt", "pass", "pat", "sig"];

/// What a file is to be replaced by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clean {
    /// Nothing: there are no credentials in it.
    Same,
    /// This text.
    Text(Vec<u8>),
    /// Nothing that could be shown: the file has to be hidden as a whole.
    Hide,
}

/// Look through `text`.
pub fn clean(text: &[u8]) -> Clean {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut hidden = false;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece(rest).clamp(1, rest.len()));
        rest = after;
        match sensitive(piece) {
            // The line stays, so that the lines of errors stay right.
            true => {
                hidden = true;
                out.extend(piece.iter().filter(|b| **b == b'\n'));
            }
            false => {
                let kept = without_credentials(piece);
                hidden |= kept != piece;
                out.extend_from_slice(&kept);
            }
        }
    }
    if !hidden {
        // What only git's own reading of quotes and continued lines puts together.
        return if says_more(text) { Clean::Hide } else { Clean::Same };
    }
    if says_more(&out) { Clean::Hide } else { Clean::Text(out) }
}

/// Length of the first piece of `text`: a comment, the head of a section, an assignment with the lines
/// that continue it, or what is between them.
fn piece(text: &[u8]) -> usize {
    let blank = text.iter().take_while(|b| b.is_ascii_whitespace()).count();
    if blank > 0 {
        return blank;
    }
    let line =
        |from: usize| text.iter().skip(from).position(|b| *b == b'\n').map_or(text.len(), |i| from + i + 1);
    let (mut quoted, mut i) = (false, 0);
    let head = match text.first() {
        Some(b'#' | b';') => return line(0),
        Some(b'[') => true,
        _ => false,
    };
    while let Some(&byte) = text.get(i) {
        match byte {
            // A line that ends in it goes on, also one that ends in CR LF.
            b'\\' if !head && text.get(i + 1) == Some(&b'\r') && text.get(i + 2) == Some(&b'\n') => i += 2,
            b'\\' => i += 1,
            b'"' => quoted = !quoted,
            b'\n' => return i + 1,
            b']' if head && !quoted => return i + 1,
            // No continuation of a comment.
            b'#' | b';' if !head && !quoted => return line(i),
            _ => {}
        }
        i += 1;
    }
    text.len()
}

/// Whether a piece is an assignment whose value is a credential as a whole.
fn sensitive(piece: &[u8]) -> bool {
    let Some(equals) = piece.iter().position(|b| *b == b'=') else { return false };
    let (name, value) = piece.split_at(equals);
    let name: String =
        name.iter().filter(|b| !b.is_ascii_whitespace()).map(|b| b.to_ascii_lowercase() as char).collect();
    let value: String = value
        .iter()
        .skip(1)
        .filter(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n'))
        .map(|b| b.to_ascii_lowercase() as char)
        .collect();
    let value = value.trim();
    if value.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return false;
    }
    match name.as_str() {
        "extraheader" | "pass" => true,
        "helper" if value.starts_with('!') => value.contains("password") || value.contains("token"),
        "helper" => value.contains("password="),
        // A file's name or a yes or no is none.
        _ if matches!(value, "true" | "false" | "yes" | "no") => false,
        _ => ENDS.iter().chain(&["smtppass"]).any(|end| name.ends_with(end)),
    }
}

/// The text without what stands between `://` and `@` in the URLs in it, and without the values in their
/// queries, where that is a credential.
fn without_credentials(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = find(text, from, b"://") {
        let start = at + 3;
        out.extend_from_slice(text.get(from..start).unwrap_or_default());
        let scheme_at =
            text.get(..at).unwrap_or_default().iter().rposition(|b| !is_scheme(*b)).map_or(0, |i| i + 1);
        let scheme = text.get(scheme_at..at).unwrap_or_default();
        let end = text.iter().skip(start).position(|b| ends_authority(*b)).map_or(text.len(), |i| start + i);
        let authority = text.get(start..end).unwrap_or_default();
        from = match authority.iter().rposition(|b| *b == b'@') {
            Some(user) if is_credential(scheme, authority.get(..user).unwrap_or_default()) => {
                start + user + 1
            }
            _ => start,
        };
        out.extend_from_slice(text.get(from..end).unwrap_or_default());
        from = parameters(text, end, &mut out);
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    out
}

/// Copy the rest of a URL, from behind its host at `from`, without the values of parameters that are
/// credentials. Returns where it ends, or another one begins in it.
fn parameters(text: &[u8], mut from: usize, out: &mut Vec<u8>) -> usize {
    let end = text.iter().skip(from).position(|b| ends_url(*b)).map_or(text.len(), |i| from + i);
    let end = find(text, from, b"://").map_or(end, |other| other.min(end));
    let separates = |b: &u8| matches!(b, b'?' | b'&' | b';' | b'#');
    while let Some(at) = text.get(from..end).unwrap_or_default().iter().position(separates) {
        let name_at = from + at + 1;
        out.extend_from_slice(text.get(from..name_at).unwrap_or_default());
        let rest = text.get(name_at..end).unwrap_or_default();
        let rest = rest.get(..rest.iter().position(separates).unwrap_or(rest.len())).unwrap_or_default();
        let value_at = rest.iter().position(|b| *b == b'=').map(|at| at + 1);
        from = match value_at.and_then(|at| rest.split_at_checked(at)) {
            Some((name, value)) if names_credential(name) => {
                out.extend_from_slice(name);
                name_at + name.len() + value.len()
            }
            _ => name_at,
        };
    }
    out.extend_from_slice(text.get(from..end).unwrap_or_default());
    end
}

/// Whether a parameter of this name, with its `=`, has a credential for its value.
fn names_credential(name: &[u8]) -> bool {
    let name = name.strip_suffix(b"=").unwrap_or(name);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
    PARAMETERS.contains(&name.as_str()) || ENDS.iter().chain(&PARAMETER_ENDS).any(|end| name.ends_with(end))
}

fn find(text: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    text.get(from..)?.windows(what.len()).position(|w| w == what).map(|i| from + i)
}

fn is_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn ends_authority(byte: u8) -> bool {
    matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'\\') || byte.is_ascii_whitespace()
}

/// A `]` is no part of a query, and closes the head of a section.
fn ends_url(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'\\' | b']') || byte.is_ascii_whitespace()
}

/// Whether the user's part of a URL is more than a name.
fn is_credential(scheme: &[u8], user: &[u8]) -> bool {
    // `alice@` and `git@` are no secrets; a token is often given as the name.
    const LONGEST_NAME: usize = 20;
    // `token:@` is a token without a password.
    let user = user.strip_suffix(b":").unwrap_or(user);
    if user.contains(&b':') {
        return true;
    }
    let shell = scheme.to_ascii_lowercase().ends_with(b"ssh");
    let text = String::from_utf8_lossy(user);
    !shell
        && (looks_like_secret(text.as_ref().as_ref())
            || (!text.contains("%40") && (user.len() > LONGEST_NAME || is_drawn(user))))
}

/// Whether a word of a user's name was drawn by lot rather than chosen: letters and digits, small and
/// capital ones take turns in it. People put a number at the end and a capital at the front of a word
/// (`alice`, `JohnDoe85`, `svc-ci2-eu1`); what is wrong for a name costs the name only.
fn is_drawn(user: &[u8]) -> bool {
    const SHORTEST: usize = 10;
    const TURNS: usize = 3;
    let class = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let turns = |word: &[u8]| {
        let pairs = word.iter().zip(word.iter().skip(1));
        let turn = |(a, b): &(&u8, &u8)| class(**a) != class(**b);
        // A capital starts a word.
        let starts = |(a, b): &(&u8, &u8)| a.is_ascii_uppercase() && b.is_ascii_lowercase();
        pairs.filter(|pair| turn(pair) && !starts(pair)).count()
    };
    let mut words = user.split(|b| !b.is_ascii_alphanumeric());
    words.any(|word| word.len() >= SHORTEST && turns(word) >= TURNS)
}

/// Whether git would still read a credential in `text`: quotes may stand in the middle of a URL, and
/// lines may be continued there.
fn says_more(text: &[u8]) -> bool {
    let mut joined = Vec::with_capacity(text.len());
    let mut bytes = text.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => {}
            b'\\' => match bytes.next() {
                Some(b'\r') if bytes.peek() == Some(&&b'\n') => drop(bytes.next()),
                Some(b'\n') | None => {}
                Some(&other) => joined.push(other),
            },
            _ => joined.push(byte),
        }
    }
    without_credentials(&joined) != joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cleaned(text: &str) -> String {
        match clean(text.as_bytes()) {
            Clean::Same => "same".to_owned(),
            Clean::Hide => "hide".to_owned(),
            Clean::Text(text) => String::from_utf8(text).unwrap(),
        }
    }

    #[test]
    fn an_ordinary_configuration_stays_as_it_is() {
        for text in [
            "",
            "[core]\n\tbare = false\n# a comment\n[remote \"origin\"]\n\turl = https://github.com/a/b.git\n",
            "[remote \"o\"]\n\turl = ssh://git@host/x\n\turl = git@github.com:a/b.git\n",
            "[remote \"o\"]\n\turl = https://alice@bitbucket.org/a/b\n",
            "[remote \"o\"]\n\turl = https://me%40example.com@dev.azure.com/org/x\n",
            "[http]\n\textraHeader =\n[credential]\n\thelper = store\n\thelper = !gh auth git-credential\n",
            "[remote \"o\"]\n\turl = https://alice:@host/x\n",
            "[remote \"o\"]\n\turl = https://JohnDoe85@h/x\n\turl = https://svc-ci2-eu1-prod3@h/x\n",
            "[remote \"o\"]\n\turl = https://first.McLastname2@h/x\n\turl = https://x-access-token@h/x\n",
            "[remote \"o\"]\n\turl = https://h/x?ref=main&depth=1;private_token=#L1\n\turl = /srv/a?token=b\n",
            "[url \"https://h/x?token=\"]\n\tinsteadOf = \"https://h/?key=\"\n",
            "[x]\n\ttoken = false\n[alias]\n\tmail = !echo a@b\n",
            "\u{feff}[core]\r\n\tx = \"a b\" ; c\r\n",
        ] {
            assert_eq!(cleaned(text), "same", "{text:?}");
        }
    }

    #[test]
    fn credentials_are_taken_out_and_nothing_else() {
        for (text, want) in [
            ("[remote \"o\"]\n\turl = https://u:tok@h/x\n", "[remote \"o\"]\n\turl = https://h/x\n"),
            ("url=https://ghp_0123456789abcdef0123@h/x # c", "url=https://h/x # c"),
            (
                "[url \"https://u:p@h/\"]\n insteadOf = https://h/\n",
                "[url \"https://h/\"]\n insteadOf = https://h/\n",
            ),
            (
                "[http \"https://h/\"]\n\textraheader = AUTHORIZATION: basic eA==\nx=1\n",
                "[http \"https://h/\"]\n\t\nx=1\n",
            ),
            ("[a] pushurl = \"ssh://u:p@h/x\"\r\n", "[a] pushurl = \"ssh://h/x\"\r\n"),
            ("proxy = http://u:p@proxy:8080", "proxy = http://proxy:8080"),
            ("# was https://u:p@h/\n", "# was https://h/\n"),
            ("a = https://u:p@h/ https://v:q@i/", "a = https://h/ https://i/"),
            ("url = https://u:p@ss@h/x", "url = https://h/x"),
            ("[sendemail]\n smtpPass = \"a#b\"\n y = 1\n", "[sendemail]\n \n y = 1\n"),
            ("helper = \"!f() { echo password=x; }; f\"\nz=1", "\nz=1"),
            ("extraHeader = a\\\n  b\nz=1", "\n\nz=1"),
            ("oauthToken = abc\\", ""),
            ("url = https://0123456789abcdef0123456789abcdef01234567:@h/", "url = https://h/"),
            ("helper = /bin/sh -c 'echo password=x'\nz=1", "\nz=1"),
            ("[jira]\n apiKey = x\n", "[jira]\n \n"),
            ("url = https://abcdefghijklmnopqrstuvwxyz@h/", "url = https://h/"),
            ("url = https://3f9a1c0b77de@h/x", "url = https://h/x"),
            ("url = https://xYz8Kq2mWv5RtB7_nL4p:@h/x", "url = https://h/x"),
            (
                "url = https://h/x?private_token=ab_c-1&ref=main # c",
                "url = https://h/x?private_token=&ref=main # c",
            ),
            ("url = \"https://h/x?a=b;Access-Token=c;d=e\"", "url = \"https://h/x?a=b;Access-Token=;d=e\""),
            ("[url \"https://h/?PASSWORD=p&key=k\"]\n", "[url \"https://h/?PASSWORD=&key=\"]\n"),
            ("url = https://u:p@h:1/x?job_token=t#token=s", "url = https://h:1/x?job_token=#token="),
            (
                "url = https://h/https://u:p@i/?to=http://v:q@j/?key=k",
                "url = https://h/https://i/?to=http://j/?key=",
            ),
            (
                "url = https://h?X-Amz-Signature=s%2F&sig=t https://i/?pat=u",
                "url = https://h?X-Amz-Signature=&sig= https://i/?pat=",
            ),
        ] {
            assert_eq!(cleaned(text), want, "{text:?}");
        }
    }

    #[test]
    fn what_only_git_puts_together_hides_the_file() {
        for text in [
            "url = https://u:p\\\nq@h/x\n",
            "url = https://u:\"p@h\"/x\n",
            "url = https:\\\n//u:p@h/x\n",
            "url = \"https://u\":p@h/x",
            "url = https://h/x?tok\"en=abc@\"",
            "url = https://h/x?token=abc\\\nd@ef",
        ] {
            let found = cleaned(text);
            assert!(found == "hide" || !found.contains('@'), "{text:?}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[\\[\\]\"\\\\#;=:/?&@a-c \n\r\t]{0,40}|(://|key|[\"\\\\?&=@a ]){0,20}") {
            match clean(text.as_bytes()) {
                Clean::Text(out) => {
                    prop_assert_eq!(clean(&out), Clean::Same);
                    prop_assert!(out.len() < text.len());
                }
                Clean::Same | Clean::Hide => {}
            }
        }
    }
}
