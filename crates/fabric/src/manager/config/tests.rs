//! Files and arguments, right and wrong.

use super::*;

fn places() -> Places {
    Places { socket: "/s".into(), store: Some("/d".into()) }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("fm.toml"), places())
}

const FILE: &str = r#"
socket = "/run/fm.sock"
agents = ["unix:/run/agents.sock", "tcp:127.0.0.1:7001"]
[timing]
patience = "500ms"
retry_most = "2m"
[[device]]
name = "pool0"
address = "/run/pool0.sock"
chooser = "device"
hosts = [
    { name = "h1", number = 0, minimum = "1GiB", maximum = "8GiB", weight = 2 },
    { name = "h2", number = 1 },
]
"#;

#[test]
fn the_store_is_beside_the_socket_that_the_file_names() {
    let store = |text: &str, store: Option<&str>| {
        let places = Places { socket: "/s/fm.sock".into(), store: store.map(Into::into) };
        Config::parse(text, Path::new("fm.toml"), places).unwrap().store
    };
    assert_eq!(store(FILE, None), Path::new("/run/fm.redb"));
    assert_eq!(store(FILE, Some("/d")), Path::new("/d"));
    let unsaid = FILE.replace("socket = \"/run/fm.sock\"", "");
    assert_eq!(store(&unsaid, None), Path::new("/s/fm.redb"));
    assert_eq!(store(&format!("store = \"/e\"\n{FILE}"), Some("/d")), Path::new("/e"));
}

#[test]
fn a_file_says_all_of_it() {
    let config = parse(FILE).unwrap();
    assert_eq!(config.socket, Path::new("/run/fm.sock"));
    assert_eq!(config.store, Path::new("/d"));
    assert_eq!(config.agents.len(), 2);
    assert_eq!(config.manager.timing.patience, Duration::from_millis(500));
    assert_eq!(config.manager.timing.retry_most, Duration::from_secs(120));
    let device = &config.manager.devices[0];
    assert_eq!(device.chooser, Chooser::Device);
    assert_eq!(device.hosts[0].limits, Limits { minimum: 1 << 30, maximum: 8 << 30, weight: 2 });
    assert_eq!(device.hosts[1].limits, Limits::default());
    assert_eq!(config.addresses[&device.name].to_string(), "unix:/run/pool0.sock");
}

#[test]
fn a_wrong_file_names_field_value_and_what_was_expected() {
    for (from, to, says) in [
        ("patience = \"500ms\"", "patience = \"soon\"", "patience is \"soon\"; expected a time"),
        ("name = \"pool0\"", "name = \"a b\"", "device.name: name \"a b\"; expected"),
        ("/run/pool0.sock", "pool0", "device pool0: address: address \"pool0\"; expected"),
        ("\"1GiB\"", "\"lots\"", "minimum of h1"),
        ("number = 1 ", "number = 70000 ", "70000"),
        ("socket =", "sockets =", "unknown field `sockets`"),
        ("tcp:127.0.0.1:7001", "tcp:x", "agents: address \"tcp:x\""),
    ] {
        assert!(FILE.contains(from), "{from}");
        let error = parse(&FILE.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(matches!(parse("socket = \"/s\""), Err(ConfigError::NoDevice)));
    let twice = FILE.to_owned() + "[[device]]\nname = \"pool0\"\naddress = \"/x\"\n";
    assert!(matches!(parse(&twice), Err(ConfigError::Twice { .. })));
}

#[test]
fn arguments_say_it_in_short() {
    let devices = ["a=/a", "b=tcp:localhost:1"].map(|text| text.parse().unwrap());
    let hosts = ["h1=0", "b/h2=1"].map(|text| text.parse().unwrap());
    let config = Config::from_arguments(places(), Vec::new(), &devices, &hosts).unwrap();
    let names = |device: usize| {
        let hosts = config.manager.devices[device].hosts.iter();
        hosts.map(|host| format!("{}={}", host.name, host.host.0)).collect::<Vec<_>>()
    };
    assert_eq!((names(0), names(1)), (vec!["h1=0".to_owned()], vec!["h1=0".into(), "h2=1".into()]));
    for text in ["h1", "h1=", "h1=x", "/h1=0", "a/b/c=0", "h 1=0"] {
        let error = text.parse::<HostArgument>().unwrap_err().to_string();
        assert!(error.contains("expected"), "{text}: {error}");
    }
    for text in ["a", "a=", "=/x", "a=b"] {
        let error = text.parse::<DeviceArgument>().unwrap_err().to_string();
        assert!(error.contains("expected"), "{text}: {error}");
    }
    let hosts = ["c/h1=0".parse().unwrap()];
    let error = Config::from_arguments(places(), Vec::new(), &devices, &hosts).unwrap_err();
    assert!(matches!(error, ConfigError::NoSuchDevice { .. }), "{error}");
}
