//! Where brokers are: names become addresses.
//!
//! A place is a host and a port, from the static list or from a broker's registration. The host is an address, or a
//! name with any number of addresses: one broker with several, or, as a Kubernetes headless service has it, several
//! brokers behind one name. Names are looked up by the shell: this machine says when ([`Action::Resolve`]), and what to
//! do with the answer. They are looked up again every 30 s, sooner where nobody was found at their addresses; a look-up
//! that fails or finds nothing is repeated with backoff, and what was known stays known. The broker's own addresses and
//! duplicates are left out.
//!
//! A place of the static list may name its node, `3@host:port`; without, whoever is there says so in the handshake.

use super::backoff::{Backoff, FIRST_MS};
use super::line::Level;
use core::net::{IpAddr, SocketAddr};
use ringlog_storage::random::SplitMix;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Names are looked up again after this time, in milliseconds.
pub const REFRESH_MS: u64 = 30_000;
/// Names at whose addresses nobody was found are looked up again after this time.
pub const SUSPECT_MS: u64 = 1_000;
/// A look-up takes no longer; what comes later is ignored.
pub const LOOKUP_MS: u64 = 5_000;
/// Addresses of one name; more are ignored. A headless service has one for each broker.
pub const ADDRESSES_PER_NAME_MAX: usize = 256;
/// Places that are kept; more are ignored.
pub const PLACES_MAX: usize = 2_048;

const _: () = assert!(SUSPECT_MS < REFRESH_MS && FIRST_MS < SUSPECT_MS);

/// A host as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name to look up.
    Name(String),
}

impl Host {
    /// The host of a listener as a broker registered it, or of a static list without its port.
    #[must_use]
    pub fn of(text: &str) -> Host {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => Host::Name(text.to_ascii_lowercase()),
        }
    }
}

/// Whose place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The node with this id registered it.
    Registered(i32),
    /// The static list has it, for this node.
    Listed(i32),
    /// The static list has it, for whoever is there.
    Anyone,
}

/// Where a broker may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Whose it is.
    pub source: Source,
    /// On which host.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

impl FromStr for Place {
    type Err = String;

    /// Reads an entry of the static list: `host:port`, `[v6 address]:port`, each with `node id@` in front if wanted.
    fn from_str(text: &str) -> Result<Place, String> {
        let (source, rest) = match text.split_once('@') {
            None => (Source::Anyone, text),
            Some((id, rest)) => {
                let id = id.parse::<i32>().ok().filter(|id| *id >= 0);
                (Source::Listed(id.ok_or_else(|| format!("'{text}' has no node id before '@'"))?), rest)
            }
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("'{text}' has no port"))?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("'{text}' has no valid port"))?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_valid = if bracketed {
            host[1..host.len() - 1].parse::<core::net::Ipv6Addr>().is_ok()
        } else {
            !host.is_empty()
                && !host.contains([':', '[', ']', '@', '/'])
                && !host.contains(char::is_whitespace)
        };
        if !host_is_valid {
            return Err(format!("'{text}' has no valid host"));
        }
        Ok(Place { source, host: Host::of(host), port })
    }
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look the name up and report [`Discovery::resolved`] with the number.
    Resolve {
        /// Names the look-up.
        lookup: u64,
        /// What to look up.
        name: String,
    },
    /// Addresses came or went: make a new plan.
    Changed,
    /// Write this to the log.
    Log(Line),
}

/// A line about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// It cannot be looked up, or has no addresses. Said once until it can.
    Unresolved {
        /// The name.
        name: String,
    },
    /// It can be looked up again.
    Resolved {
        /// The name.
        name: String,
        /// How many addresses it has.
        addresses: usize,
    },
    /// It has more addresses than are looked at.
    TooMany {
        /// The name.
        name: String,
        /// How many addresses it has.
        addresses: usize,
    },
}

impl Line {
    /// How loud it is.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Line::Unresolved { .. } | Line::TooMany { .. } => Level::Warn,
            Line::Resolved { .. } => Level::Info,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Unresolved { name } => write!(f, "{name} cannot be looked up; trying again"),
            Line::Resolved { name, addresses } => write!(f, "{name} has {addresses} addresses now"),
            Line::TooMany { name, addresses } => {
                write!(f, "{name} has {addresses} addresses; {ADDRESSES_PER_NAME_MAX} of them are used")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Looked up at this time.
    Due { at_ms: u64 },
    /// Being looked up.
    Asked { lookup: u64, deadline_ms: u64 },
}

#[derive(Clone, Debug)]
struct Name {
    state: State,
    /// When the last look-up began.
    asked_ms: Option<u64>,
    backoff: Backoff,
    /// The log knows that it cannot be looked up.
    told: bool,
    addresses: Vec<IpAddr>,
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Discovery {
    places: Vec<Place>,
    names: BTreeMap<String, Name>,
    own: BTreeSet<SocketAddr>,
    lookups: u64,
    random: SplitMix,
}

impl Discovery {
    /// Without places. What it does follows from its inputs and the seed.
    #[must_use]
    pub fn new(seed: u64) -> Discovery {
        Discovery {
            places: Vec::new(),
            names: BTreeMap::new(),
            own: BTreeSet::new(),
            lookups: 0,
            random: SplitMix::new(seed),
        }
    }

    /// An address turned out to be this broker's own: where it listens, or where a handshake was answered by itself.
    pub fn add_own(&mut self, address: SocketAddr) {
        self.own.insert(canonical(address));
    }

    /// Takes the places that count from now on; names that are no longer among them are forgotten.
    pub fn set_places(
        &mut self,
        now_ms: u64,
        places: impl IntoIterator<Item = Place>,
        out: &mut Vec<Action>,
    ) {
        let mut seen = BTreeSet::new();
        let places = places.into_iter().filter(|place| seen.insert(place.clone()));
        let places: Vec<Place> = places.take(PLACES_MAX).collect();
        if places == self.places {
            return;
        }
        self.places = places;
        let wanted: BTreeSet<&str> = self.places.iter().filter_map(name_of).collect();
        self.names.retain(|name, _| wanted.contains(name.as_str()));
        for name in wanted {
            if !self.names.contains_key(name) {
                let state = State::Due { at_ms: now_ms };
                let backoff = Backoff::default();
                let new = Name { state, asked_ms: None, backoff, told: false, addresses: Vec::new() };
                self.names.insert(name.to_owned(), new);
            }
        }
        out.push(Action::Changed);
    }

    /// Nobody was found at the addresses of this node's places: their names are looked up soon.
    pub fn suspect(&mut self, now_ms: u64, node_id: i32) {
        let of_node = |place: &&Place| matches!(place.source, Source::Registered(id) | Source::Listed(id) if id == node_id);
        let names = self.places.iter().filter(of_node).filter_map(name_of).map(str::to_owned);
        for name in names.collect::<Vec<_>>() {
            self.look_up_soon(now_ms, &name);
        }
    }

    /// The same for a place of anyone, by the address at which nobody was.
    pub fn suspect_address(&mut self, now_ms: u64, address: SocketAddr) {
        let ip = address.ip().to_canonical();
        let names = self.names.iter().filter(|(_, name)| name.addresses.contains(&ip));
        for name in names.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.look_up_soon(now_ms, &name);
        }
    }

    fn look_up_soon(&mut self, now_ms: u64, name: &str) {
        let Some(name) = self.names.get_mut(name) else { return };
        if let State::Due { at_ms } = &mut name.state {
            let soonest_ms = name.asked_ms.map_or(now_ms, |asked| now_ms.max(asked + SUSPECT_MS));
            *at_ms = (*at_ms).min(soonest_ms);
        }
    }

    /// When [`Discovery::on_time`] must be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let deadline = |name: &Name| match name.state {
            State::Due { at_ms } => at_ms,
            State::Asked { deadline_ms, .. } => deadline_ms,
        };
        self.names.values().map(deadline).min()
    }

    /// Starts the look-ups that are due, and gives up those that take too long.
    pub fn on_time(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        for (text, name) in &mut self.names {
            match name.state {
                State::Due { at_ms } if at_ms <= now_ms => {
                    self.lookups += 1;
                    let lookup = self.lookups;
                    name.state = State::Asked { lookup, deadline_ms: now_ms + LOOKUP_MS };
                    name.asked_ms = Some(now_ms);
                    out.push(Action::Resolve { lookup, name: text.clone() });
                }
                State::Asked { deadline_ms, .. } if deadline_ms <= now_ms => {
                    name.failed(now_ms, text, self.random.draw(), out);
                }
                _ => {}
            }
        }
    }

    /// The answer to a look-up; none where it failed. A late answer is ignored.
    pub fn resolved(&mut self, now_ms: u64, lookup: u64, answer: Option<&[IpAddr]>, out: &mut Vec<Action>) {
        let asked =
            |name: &Name| matches!(name.state, State::Asked { lookup: number, .. } if number == lookup);
        let Some((text, name)) = self.names.iter_mut().find(|(_, name)| asked(name)) else { return };
        let random = self.random.draw();
        let mut addresses: Vec<IpAddr> =
            answer.unwrap_or_default().iter().map(IpAddr::to_canonical).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return name.failed(now_ms, text, random, out);
        }
        if addresses.len() > ADDRESSES_PER_NAME_MAX {
            out.push(Action::Log(Line::TooMany { name: text.clone(), addresses: addresses.len() }));
            addresses.truncate(ADDRESSES_PER_NAME_MAX);
        }
        name.backoff.reset();
        // Up to a tenth earlier, so that the names of a large cluster are not all looked up together.
        name.state = State::Due { at_ms: now_ms + REFRESH_MS - random % (REFRESH_MS / 10) };
        if std::mem::take(&mut name.told) {
            let addresses = addresses.len();
            out.push(Action::Log(Line::Resolved { name: text.clone(), addresses }));
        }
        if name.addresses != addresses {
            name.addresses = addresses;
            out.push(Action::Changed);
        }
    }

    /// The addresses of a node, those that it registered first; without duplicates and without this broker's own.
    #[must_use]
    pub fn addresses_of(&self, node_id: i32) -> Vec<SocketAddr> {
        let mut addresses = self.addresses(|source| source == Source::Registered(node_id));
        for address in self.addresses(|source| source == Source::Listed(node_id)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Whether a node's registered places led to addresses.
    #[must_use]
    pub fn has_registered(&self, node_id: i32) -> bool {
        !self.addresses(|source| source == Source::Registered(node_id)).is_empty()
    }

    /// The addresses at which anyone may be; without duplicates and without this broker's own.
    #[must_use]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        self.addresses(|source| source == Source::Anyone)
    }

    /// The nodes that the static list names.
    #[must_use]
    pub fn listed(&self) -> BTreeSet<i32> {
        let listed = |place: &Place| match place.source {
            Source::Listed(id) => Some(id),
            Source::Registered(_) | Source::Anyone => None,
        };
        self.places.iter().filter_map(listed).collect()
    }

    fn addresses(&self, of: impl Fn(Source) -> bool) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for place in self.places.iter().filter(|place| of(place.source)) {
            let hosts: &[IpAddr] = match &place.host {
                Host::Address(address) => std::slice::from_ref(address),
                Host::Name(name) => self.names.get(name).map_or(&[], |name| &name.addresses),
            };
            for host in hosts {
                let address = SocketAddr::new(*host, place.port);
                if !self.own.contains(&address) && !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        found
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        assert!(self.places.len() <= PLACES_MAX);
        let wanted: BTreeSet<&str> = self.places.iter().filter_map(name_of).collect();
        assert!(
            wanted.into_iter().eq(self.names.keys().map(String::as_str)),
            "every name of a place is looked up"
        );
        for name in self.names.values() {
            name.backoff.check();
            assert!(name.addresses.len() <= ADDRESSES_PER_NAME_MAX);
            assert!(name.addresses.is_sorted_by(|a, b| a < b));
            if let State::Asked { lookup, .. } = name.state {
                assert!(lookup <= self.lookups && name.asked_ms.is_some());
            }
        }
    }
}

impl Name {
    /// A look-up failed or found nothing. What was known stays: a name server's outage takes no broker away.
    fn failed(&mut self, now_ms: u64, text: &str, random: u64, out: &mut Vec<Action>) {
        self.state = State::Due { at_ms: now_ms + self.backoff.next(random) };
        if !std::mem::replace(&mut self.told, true) {
            out.push(Action::Log(Line::Unresolved { name: text.to_owned() }));
        }
    }
}

fn name_of(place: &Place) -> Option<&str> {
    match &place.host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
