//! Which ports the network takes: as declared, moved, or free ones; and who holds a port that is taken.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};

use crate::service::{
    failure::{Failure, Status},
    listeners::{free_port, is_taken},
    network::Network,
};

/// How the ports of a network are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// As the declaration says.
    #[default]
    Declared,
    /// All moved up by this much.
    Moved(u16),
    /// Any that are free, so that several networks run side by side.
    Free,
}

// === impl Ports ===

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Free),
            "0" => Ok(Self::Declared),
            number => number
                .parse()
                .map(Self::Moved)
                .map_err(|_| format!("{text:?} is neither a number of ports to move up by nor `auto`")),
        }
    }
}

impl Ports {
    /// The network with its ports chosen.
    ///
    /// # Errors
    /// When a moved port is above 65535, no free ports are left, or a bridge has no admin port.
    pub fn choose(self, mut network: Network) -> Result<Network, Failure> {
        for (name, organisation) in &mut network.organisations {
            let chosen = organisation.bridge_admin_port();
            if organisation.bridge_port.is_some() && chosen.is_none() {
                return Err(Failure::new(Status::Config, format!("{name}: there is no port after bridge_port"))
                    .remedy("Declare its bridge_admin_port."));
            }
            organisation.bridge_admin_port = chosen;
        }
        match self {
            Self::Declared => {}
            Self::Moved(offset) => {
                for (what, port) in all_mut(&mut network) {
                    *port = port.checked_add(offset).ok_or_else(|| {
                        let problem = format!("{what} would be {}, above 65535", u32::from(*port) + u32::from(offset));
                        Failure::new(Status::Usage, problem).remedy("Choose a smaller --port-offset.")
                    })?;
                }
            }
            Self::Free => {
                for (_, port) in all_mut(&mut network) {
                    *port = free_port()?;
                }
            }
        }
        Ok(network)
    }
}

/// Every port of the network that the lab listens on, with what it is for.
pub fn all(network: &Network) -> Vec<(String, u16)> {
    all_mut(&mut network.clone()).into_iter().map(|(what, port)| (what, *port)).collect()
}

/// The discovery port is left out: without privileges nobody listens on 443, and the egress leads there.
fn all_mut(network: &mut Network) -> Vec<(String, &mut u16)> {
    let proxy = &mut network.proxy;
    let mut ports = vec![
        ("the proxy's federation port".to_owned(), &mut proxy.federation_port),
        ("the proxy's client port".to_owned(), &mut proxy.client_port),
        ("the proxy's egress port".to_owned(), &mut proxy.egress_port),
    ];
    for (name, organisation) in &mut network.organisations {
        ports.push((format!("the homeserver port of {name}"), &mut organisation.homeserver_port));
        ports.extend(organisation.client_port.as_mut().map(|port| (format!("the Element port of {name}"), port)));
        ports.extend(organisation.bridge_port.as_mut().map(|port| (format!("the bridge port of {name}"), port)));
        let admin = organisation.bridge_admin_port.as_mut();
        ports.extend(admin.map(|port| (format!("the bridge's admin port of {name}"), port)));
    }
    ports
}

/// Makes sure that every port of the network is free and none is used twice, waiting up to `patience` for programs
/// that are just ending.
///
/// # Errors
/// A [`Failure`] that names the first port that is not, what it was for, and, as far as can be known, who holds it.
pub fn check(network: &Network, patience: Duration) -> Result<(), Failure> {
    let mut seen = BTreeMap::new();
    for (what, port) in all(network) {
        if let Some(other) = seen.insert(port, what.clone()) {
            return Err(Failure::new(Status::Config, format!("port {port} is both {other} and {what}"))
                .remedy("Give each its own port in the declaration of the network."));
        }
    }
    let until = Instant::now() + patience;
    for (port, what) in seen {
        while is_taken(port) {
            if Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let holder = holder(port).map(|holder| format!(" by {holder}")).unwrap_or_default();
            return Err(Failure::new(Status::Unavailable, format!("port {port} ({what}) is in use{holder}"))
                .remedy("Stop that program, or move the lab with --port-offset NUMBER or --port-offset auto."));
        }
    }
    Ok(())
}

/// The program that listens on a port, as `nginx (process 1234)`; known for this user's own programs, or to root.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes = tables.iter().flat_map(|table| table.lines()).filter_map(|line| listening_inode(line, port));
    let sockets: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        holds_one_of(&entry.path(), &sockets).then(|| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{} (process {process})", name.trim())
        })
    })
}

/// The inode of a socket in a line of `/proc/net/tcp` (proc_net_tcp(5)) when it listens (state 0A) on the port.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
    listens.then(|| fields.get(9).copied()).flatten()
}

fn holds_one_of(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| sockets.iter().any(|socket| target == Path::new(socket)))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use super::*;
    use crate::service::listeners::FREE_RANGE;

    #[test]
    fn ports_move_together() {
        let network = Ports::Moved(1000).choose(Network::lab().unwrap()).unwrap();
        assert_eq!(network.proxy.federation_port, 9448);
        assert_eq!(network.organisations["vvt"].client_port, Some(9003));
        assert_eq!(network.organisations["vvt"].bridge_port, Some(2234));
        assert_eq!(network.organisations["vvt"].bridge_admin_port, Some(2235));
        assert_eq!(network.organisations["huisarts"].bridge_admin_port, None);
        let failure = Ports::Moved(60_000).choose(Network::lab().unwrap()).unwrap_err();
        assert!(failure.to_string().contains("above 65535"), "{failure}");
    }

    #[test]
    fn a_bridge_at_the_last_port_needs_an_admin_port_of_its_own() {
        let mut network = Network::lab().unwrap();
        let vvt = network.organisations.get_mut("vvt").unwrap();
        vvt.bridge_port = Some(u16::MAX);
        let failure = Ports::Declared.choose(network.clone()).unwrap_err();
        assert!(failure.to_string().contains("vvt"), "{failure}");
        network.organisations.get_mut("vvt").unwrap().bridge_admin_port = Some(1235);
        Ports::Declared.choose(network).unwrap();
    }

    #[test]
    fn free_ports_are_all_different_and_free() {
        let network = "auto".parse::<Ports>().unwrap().choose(Network::lab().unwrap()).unwrap();
        check(&network, Duration::ZERO).unwrap();
        assert!(all(&network).iter().all(|(_, port)| FREE_RANGE.contains(port)));
    }

    #[test]
    fn a_taken_port_is_named_with_its_holder() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let mut network = Ports::Free.choose(Network::lab().unwrap()).unwrap();
        network.proxy.client_port = listener.local_addr().unwrap().port();
        let text = check(&network, Duration::ZERO).unwrap_err().to_string();
        let process = std::process::id();
        assert!(text.contains("the proxy's client port") && text.contains(&format!("process {process}")), "{text}");
    }

    #[test]
    fn one_port_for_two_things_is_refused() {
        let mut network = Network::lab().unwrap();
        network.proxy.egress_port = network.proxy.client_port;
        let text = check(&network, Duration::ZERO).unwrap_err().to_string();
        assert_eq!(text, "port 8008 is both the proxy's client port and the proxy's egress port");
    }
}
