//! What is on disk of each cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::guard::{Place, below, judge, judge_room};
use super::{Caches, Found, Shown, tokens};
use crate::base::env;
use crate::jail::plan::MOST_CACHES;
use crate::jail::spec::Hidden;
use crate::ops::tools::disk::Disk;
use crate::ops::tools::{Around, Tools, shown};
use crate::policy::flavor::{Cache, Caller};

/// The jail's home directory.
const HOME_INSIDE: &str = "/home/agent";

/// The search.
pub(super) struct Look<'a> {
    around: &'a Around<'a>,
    tools: &'a Tools,
    caller: &'a Caller<'a>,
    disk: Disk,
    caches: Caches,
    refused: Vec<String>,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        around: &'a Around<'a>,
        tools: &'a Tools,
        caller: &'a Caller<'a>,
        disk: Disk,
    ) -> Look<'a> {
        Look { around, tools, caller, disk, caches: Caches::default(), refused: Vec::new() }
    }

    /// Look at one cache. `user` says what uses it, asked only when there is something to show.
    pub(super) fn take(&mut self, cache: &Cache, user: impl Fn(&Cache) -> Option<String>) {
        let mut places: Vec<(usize, PathBuf, Option<Shown>)> = Vec::new();
        let mut by = None;
        let mut refused = Vec::new();
        for (n, item) in cache.show.iter().enumerate() {
            let Some(path) = cache.expand(item, self.caller) else { continue };
            let Some((real, seen)) = self.disk.look(&path) else { continue };
            if by.is_none() {
                by = user(cache);
            }
            if by.is_none() {
                return;
            }
            match judge((&path, &real, seen), self.around, self.tools, self.caller.home) {
                Place::Refused(why) => refused.push((path, why)),
                Place::Visible => places.push((n, path, None)),
                Place::Shown => {
                    let name = format!("{}-{n}", cache.name);
                    let shown =
                        Shown { name, path: real, owner: seen.owner, hidden: Vec::new(), grows: cache.grows };
                    places.push((n, path, Some(shown)));
                }
            }
        }
        let seen: Vec<PathBuf> = places.iter().map(|(_, path, _)| path.clone()).collect();
        let (variables, rooms) = self.variables(cache, &seen);
        for room in rooms {
            match judge_room(&room, self.around, self.caller.home) {
                Place::Visible => {}
                Place::Shown => self.caches.rooms.push(room),
                Place::Refused(why) => {
                    refused.push((room, why));
                    places.clear();
                }
            }
        }
        for (path, why) in refused {
            let line = format!("`{}` ({}): {why}", shown(&path, self.caller.home), cache.name);
            if !self.refused.contains(&line) {
                self.refused.push(line);
            }
        }
        let Some(by) = by.filter(|_| !places.is_empty()) else {
            return;
        };
        self.caches.variables.extend(variables);
        self.link(cache, &seen);
        let hidden = self.hidden(cache, &seen);
        let mut found = Found { name: cache.name.to_string(), by, places: seen, hidden: Vec::new() };
        for hidden in hidden {
            let inside = |place: &&mut Shown| below(&hidden.path, &place.path) && hidden.path != place.path;
            if let Some(place) = places.iter_mut().filter_map(|(_, _, place)| place.as_mut()).find(inside) {
                found.hidden.push(hidden.path.clone());
                place.hidden.push(hidden);
            }
        }
        self.caches.shown.extend(places.into_iter().filter_map(|(_, _, shown)| shown));
        self.caches.found.push(found);
    }

    /// The variables of one cache of which these places are seen, and directories around them.
    fn variables(&self, cache: &Cache, seen: &[PathBuf]) -> (Vec<(OsString, OsString)>, Vec<PathBuf>) {
        let (mut variables, mut rooms) = (Vec::new(), Vec::new());
        if seen.is_empty() {
            return (variables, rooms);
        }
        let copied =
            cache.copy.iter().filter_map(|name| Some((name, self.caller.variable(name)?.to_owned())));
        let set = cache.set.iter().filter(|(_, item)| !item.starts_with('='));
        let set = set.filter_map(|(name, item)| Some((name, cache.expand(item, self.caller)?)));
        for (name, value) in copied.chain(set) {
            let within = seen.iter().any(|place| below(&value, place));
            if !within && seen.iter().any(|place| below(place, &value)) {
                rooms.push(value.clone());
            } else if !within {
                continue;
            }
            variables.push((name.into(), value.into()));
        }
        for (name, word) in cache.set.iter() {
            // The caller's own choice stands, when it is one of words.
            if let Some(word) = word.strip_prefix('=').filter(|_| env::caller(name).is_none()) {
                variables.push((name.into(), word.into()));
            }
        }
        (variables, rooms)
    }

    fn link(&mut self, cache: &Cache, seen: &[PathBuf]) {
        for (name, item) in cache.home.iter() {
            let Some(target) = cache.expand(item, self.caller) else { continue };
            if let Some(name) = name.strip_prefix("~/").filter(|_| seen.contains(&target)) {
                self.caches.links.push((Path::new(HOME_INSIDE).join(name), target));
            }
        }
    }

    /// What is to be hidden below these places.
    fn hidden(&mut self, cache: &Cache, seen: &[PathBuf]) -> Vec<Hidden> {
        let items = cache.hide.iter().map(|item| (item, false));
        let items: Vec<_> = items.chain(cache.tokens.iter().map(|item| (item, true))).collect();
        let mut hidden: Vec<Hidden> = Vec::new();
        for (item, tokens) in items {
            let Some(pattern) = cache.expand(item, self.caller) else { continue };
            if !seen.iter().any(|place| below(&pattern, place)) {
                continue;
            }
            for path in self.disk.glob(&pattern) {
                let Some((real, what)) = self.disk.look(&path) else { continue };
                let covered = hidden.iter().any(|h| h.directory && below(&real, &h.path));
                // What a link leads to is seen there or not at all.
                if real != path || covered || (tokens && !(what.is_file() && tokens::are_in(&real))) {
                    continue;
                }
                hidden.push(Hidden { path: real, directory: what.is_dir() });
            }
        }
        hidden
    }

    /// All that was found. A directory in another one is seen with that.
    pub(super) fn finish(self) -> Caches {
        let Look { mut caches, refused, .. } = self;
        caches.shown.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        let mut outermost: Vec<Shown> = Vec::with_capacity(caches.shown.len());
        for shown in caches.shown {
            match outermost.iter_mut().find(|outer| below(&shown.path, &outer.path)) {
                Some(outer) => {
                    outer.hidden.extend(shown.hidden);
                    outer.grows |= shown.grows;
                }
                None => outermost.push(shown),
            }
        }
        for shown in &mut outermost {
            shown.hidden.sort_by(|a, b| a.path.cmp(&b.path));
            shown.hidden.dedup();
        }
        outermost.truncate(MOST_CACHES);
        caches.rooms.sort();
        caches.rooms.dedup();
        caches.rooms.retain(|room| outermost.iter().all(|outer| !below(room, &outer.path)));
        if !refused.is_empty() {
            caches.warnings.push(format!("not every cache is shown: {}", refused.join("; ")));
        }
        Caches { shown: outermost, ..caches }
    }
}
