//! Everything that must be in place before the network starts: certificates, homeserver configurations, the
//! settings of proxy and bridges. Made anew at each start from the declaration; keys, databases and secrets are kept.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
};

use super::{
    bridge::{self, Bridge},
    element,
    install::Synapse,
    places::Places,
    program::Program,
    supervisor::{Health, Service},
    synapse::Homeserver,
};
use crate::{
    pki::{Authority, AuthorityProfile, LeafProfile},
    proxy::settings::{HostPort, Period, Server, Settings, StaticSite},
    service::{
        failure::{Failure, Status},
        files,
        listeners::Address,
        network::{Network, Organisation},
    },
};

/// The name under which the proxy runs and logs.
pub const PROXY: &str = "proxy";
/// The port on which homeservers look for `.well-known/matrix/server`. Nobody listens there in the lab: the egress
/// leads it to the proxy's own TLS port.
const DISCOVERY_PORT: u16 = 443;

/// What databases, media and logs of a first run take, with some to spare; in bytes.
const NEEDED_ROOM: u64 = 128 << 20;

/// A network that is ready to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The programs.
    pub services: Vec<Service>,
}

// === impl Setup ===

impl Setup {
    /// Puts everything in place.
    ///
    /// # Errors
    /// When a file cannot be written, or a name of the network cannot be certified.
    pub fn prepare(
        places: &Places,
        network: &Network,
        synapse: &Synapse,
        element: Option<&Path>,
    ) -> Result<Self, Failure> {
        let bridges = bridge::all(places, network);
        let own: Vec<String> = own_names(network);
        if let Some(name) = network.names().find(|name| own.iter().any(|own| own == name)) {
            return Err(Failure::new(Status::Config, format!("no organisation may be called {name:?}"))
                .remedy("A program of the lab has that name; choose another."));
        }
        files::make_directory(&places.logs())?;
        files::require_room(places.state(), NEEDED_ROOM, "the network")?;
        certify(places, network)?;
        let mut services = vec![proxy(places, network, element)?];
        // Before any homeserver starts: it reads the registration then.
        for bridge in &bridges {
            bridge.prepare()?;
            services.push(bridge.service(places)?);
        }
        for homeserver in homeservers(places, network) {
            homeserver.prepare()?;
            services.push(Service {
                program: homeserver.program(synapse, places.output(&homeserver.name)),
                health: Health { address: loopback(homeserver.port), host: "localhost".to_owned(), path: "/health" },
                logs: vec![places.output(&homeserver.name), places.log(&homeserver.name)],
            });
        }
        Ok(Self { services })
    }
}

/// Sees to it that the CA exists and every server has a valid certificate; renews those that are due.
///
/// # Errors
/// When a file cannot be written, or a name cannot be certified.
pub fn certify(places: &Places, network: &Network) -> Result<(), Failure> {
    let (authority, _) = Authority::open_or_create(&places.authority(), &AuthorityProfile::new(network.names()))?;
    for name in network.names() {
        authority.issue(&LeafProfile::new(name).with_sans([browser_host(name)]))?;
    }
    Ok(())
}

/// The name that a browser on this machine resolves to the loopback address by itself (RFC 6761 section 6.3).
pub fn browser_host(name: &str) -> String {
    format!("{name}.localhost")
}

/// The address of a homeserver for browsers on this machine.
pub fn browser_address(network: &Network, name: &str) -> String {
    format!("http://{}:{}", browser_host(name), network.proxy.client_port)
}

/// The address of a homeserver for clients that know the name and trust the CA.
pub fn secure_address(network: &Network, name: &str) -> String {
    format!("https://{name}:{}", network.proxy.federation_port)
}

/// Where people find one of the lab's programs: a homeserver's address for browsers, a bridge's FHIR endpoint.
pub fn address(network: &Network, program: &str) -> Option<String> {
    if network.organisations.contains_key(program) {
        return Some(browser_address(network, program));
    }
    let (_, organisation) = network.organisations.iter().find(|(name, _)| bridge::program_name(name) == program)?;
    organisation.bridge_port.map(bridge::fhir_address)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The loopback addresses of both families, or of one where this machine has no IPv6.
fn both_loopbacks(port: u16) -> Vec<Address> {
    let mut addresses = vec![Address::Tcp(loopback(port))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(Address::Tcp((Ipv6Addr::LOCALHOST, port).into()));
    }
    addresses
}

fn homeservers(places: &Places, network: &Network) -> Vec<Homeserver> {
    let registrations = |name: &str, organisation: &Organisation| {
        Bridge::of(places, name, organisation).map(|bridge| bridge.registration()).into_iter().collect()
    };
    let homeserver = |(name, organisation): (&String, &Organisation)| Homeserver {
        name: name.clone(),
        directory: places.homeserver(name),
        log: places.log(name),
        port: organisation.homeserver_port,
        client_address: browser_address(network, name) + "/",
        authority: Authority::certificate_path(&places.authority()),
        egress_port: network.proxy.egress_port,
        application_services: registrations(name, organisation),
    };
    network.organisations.iter().map(homeserver).collect()
}

fn proxy(places: &Places, network: &Network, element: Option<&Path>) -> Result<Service, Failure> {
    let settings = proxy_settings(places, network, element)?;
    settings.check()?;
    let text = toml::to_string(&settings)
        .map_err(|error| Failure::new(Status::Data, "cannot write the proxy's settings as TOML").because(error))?;
    files::write(&places.proxy_settings(), text.as_bytes(), files::PUBLIC)?;
    let arguments = ["run".into(), "--config".into(), places.proxy_settings().into()];
    // Any server's name will do: the proxy serves all or none.
    let known = network.names().next().unwrap_or_default();
    Ok(Service {
        program: Program::own(PROXY, "federation-proxy", arguments)?.offline().output(places.log(PROXY)),
        health: Health {
            address: loopback(network.proxy.client_port),
            host: browser_host(known),
            path: "/.well-known/matrix/client",
        },
        logs: vec![places.log(PROXY)],
    })
}

fn proxy_settings(places: &Places, network: &Network, element: Option<&Path>) -> Result<Settings, Failure> {
    let proxy = &network.proxy;
    let pairs = Authority::pairs(&places.authority());
    let mut settings = Settings::default();
    settings.listen.tls = both_loopbacks(proxy.federation_port);
    settings.listen.plain = both_loopbacks(proxy.client_port);
    settings.listen.egress = vec![Address::Tcp(loopback(proxy.egress_port))];
    settings.policy.members = Some(network.names().map(str::to_owned).collect());
    // Nobody but this machine's own programs waits for the lab to stop.
    settings.limits.drain_time = Period::seconds(2);
    let local = HostPort { host: Ipv4Addr::LOCALHOST.to_string(), port: proxy.federation_port };
    for (name, organisation) in &network.organisations {
        let mut server = Server::new(value(format!("http://127.0.0.1:{}", organisation.homeserver_port))?);
        server.certificate = Some(pairs.certificate_path(name));
        server.key = Some(pairs.key_path(name));
        server.hosts = vec![browser_host(name)];
        server.federation = Some(HostPort { host: name.clone(), port: proxy.federation_port });
        server.client = Some(secure_address(network, name));
        settings.servers.insert(name.clone(), server);
        for port in [DISCOVERY_PORT, proxy.federation_port] {
            settings.egress.targets.insert(HostPort { host: name.clone(), port }, local.clone());
        }
        if let (Some(root), Some(port)) = (element, organisation.client_port) {
            let config = element::config(&browser_address(network, name), name, &organisation.display_name);
            let site = StaticSite { listen: both_loopbacks(port), root: root.to_owned(), config: Some(config) };
            settings.static_sites.insert(format!("element-{name}"), site);
        }
    }
    Ok(settings)
}

fn value<T: std::str::FromStr<Err = String>>(text: String) -> Result<T, Failure> {
    text.parse().map_err(|error: String| Failure::new(Status::Config, error))
}

/// The names of the lab's programs that are no homeservers.
fn own_names(network: &Network) -> Vec<String> {
    let with_bridge = network.organisations.iter().filter(|(_, organisation)| organisation.bridge_port.is_some());
    [PROXY.to_owned()].into_iter().chain(with_bridge.map(|(name, _)| bridge::program_name(name))).collect()
}

/// Where each program's logs are, by its name.
pub fn logs(places: &Places, network: &Network) -> BTreeMap<String, std::path::PathBuf> {
    let names = network.names().map(str::to_owned).chain(own_names(network));
    names.map(|name| (name.clone(), places.log(&name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(network: &Network, element: Option<&Path>) -> (tempfile::TempDir, Places, Settings) {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::new(Some(directory.path()), Some(directory.path())).unwrap();
        certify(&places, network).unwrap();
        let settings = proxy_settings(&places, network, element).unwrap();
        settings.check().unwrap();
        (directory, places, settings)
    }

    #[test]
    fn a_fourth_organisation_is_one_table_more() {
        let text = format!(
            "{}\n[organisations.ggz]\ndisplay_name = \"GGZ\"\nhomeserver_port = 8048\n",
            crate::service::network::LAB
        );
        let network: Network = crate::service::settings::parse_toml(&text, "four.toml").unwrap();
        let (_directory, places, settings) = setup(&network, None);
        assert_eq!(settings.policy.members.as_ref().unwrap().len(), 4);
        assert!(settings.egress.targets.contains_key(&"ggz:8448".parse().unwrap()));
        assert!(settings.servers["ggz"].certificate.as_ref().unwrap().is_file());
        assert_eq!(homeservers(&places, &network).len(), 4);
    }

    #[test]
    fn what_the_proxy_reads_is_what_was_meant() {
        let element = tempfile::tempdir().unwrap();
        let (_directory, _places, settings) = setup(&Network::lab().unwrap(), Some(element.path()));
        let written = toml::to_string(&settings).unwrap();
        let read: Settings = crate::service::settings::parse_toml(&written, "proxy.toml").unwrap();
        assert_eq!(read, settings);
        assert_eq!(read.static_sites["element-vvt"].listen[0].to_string(), "127.0.0.1:8003");
    }

    #[test]
    fn the_names_of_the_labs_own_programs_are_taken() {
        for name in [PROXY, "bridge-vvt"] {
            let mut network = Network::lab().unwrap();
            let huisarts = network.organisations["huisarts"].clone();
            network.organisations.insert(name.to_owned(), huisarts);
            let directory = tempfile::tempdir().unwrap();
            let places = Places::new(Some(directory.path()), Some(directory.path())).unwrap();
            let failure = Setup::prepare(&places, &network, &Synapse { command: Vec::new() }, None).unwrap_err();
            assert_eq!(failure.to_string(), format!("no organisation may be called {name:?}"));
        }
    }

    #[test]
    fn the_homeserver_with_a_bridge_knows_it() {
        let network = Network::lab().unwrap();
        let places = Places::new(Some(Path::new("/state")), Some(Path::new("/cache"))).unwrap();
        for homeserver in homeservers(&places, &network) {
            let known: Vec<&Path> = homeserver.application_services.iter().map(|path| path.as_path()).collect();
            let bridge = Path::new("/state/bridges/vvt/registration.yaml");
            assert_eq!(known, if homeserver.name == "vvt" { vec![bridge] } else { Vec::new() });
        }
        assert!(logs(&places, &network).contains_key("bridge-vvt"));
    }
}
