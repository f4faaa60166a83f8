//! A manager's service in a thread, and looks at the one device it manages.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_fabric::{
    Address,
    channel::{Channel, Incoming},
    control::{DeviceStateView, DeviceView},
    frame,
    manager::{
        Client, Config, RunError, Service,
        config::{DeviceArgument, HostArgument, Places},
    },
    serving::StopHandle,
    wire::{FromManager, MAX_FRAME_BYTES, ToManager, VERSION},
};

/// Longer than anything takes on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(60);

/// A service that serves until it is dropped.
pub struct Managed {
    directory: PathBuf,
    pub notices: Arc<Mutex<Vec<String>>>,
    stop: StopHandle,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

/// Sockets and store are in the directory. `device` is what `--device` takes, `hosts` what `--host`
/// does.
pub fn config(directory: &Path, device: &str, hosts: &[&str]) -> Config {
    let places =
        Places { socket: directory.join("control"), store: Some(directory.join("store.redb")) };
    let device: DeviceArgument = device.parse().unwrap();
    let hosts: Vec<HostArgument> = hosts.iter().map(|text| text.parse().unwrap()).collect();
    let agents = vec![Address::Unix(directory.join("agents"))];
    Config::from_arguments(places, agents, &[device], &hosts).unwrap()
}

impl Managed {
    pub fn run(directory: &Path, config: Config) -> Self {
        let mut service = Service::bind(config).unwrap();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&notices);
        service.on_notice(move |notice| log.lock().unwrap().push(notice.to_string()));
        let stop = service.stop_handle();
        let thread = Some(std::thread::spawn(move || service.run()));
        Self { directory: directory.to_owned(), notices, stop, thread }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.directory.join("control")).unwrap()
    }

    /// Where agents connect.
    pub fn agents(&self) -> PathBuf {
        self.directory.join("agents")
    }

    /// Waits until the device is so.
    #[track_caller]
    pub fn wait(&self, client: &mut Client, is: impl Fn(&DeviceView) -> bool) -> DeviceView {
        let until = Instant::now() + LONG;
        loop {
            let view = client.devices().unwrap().remove(0);
            if is(&view) {
                return view;
            }
            assert!(Instant::now() < until, "{view:#?}\n{:#?}", self.notices.lock().unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[track_caller]
    pub fn ready(&self, client: &mut Client) -> DeviceView {
        self.wait(client, |view| view.state == DeviceStateView::Ready)
    }

    pub fn stop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(ended) = ended
            && !std::thread::panicking()
        {
            ended.unwrap().unwrap();
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An agent's connection, once it has said who it is.
pub fn introduce(agents: &Path, name: &str) -> Result<Channel, String> {
    let address = Address::Unix(agents.to_owned());
    let socket = address.connect(LONG).map_err(|error| error.to_string())?;
    let mut channel = Channel::new(socket, MAX_FRAME_BYTES);
    channel.send(&ToManager::Hello { version: VERSION, host: name.to_owned() }, None).unwrap();
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        channel.flush();
        match channel.receive() {
            Incoming::Frame(body) => match frame::decode(&body).unwrap() {
                FromManager::Welcome { .. } => return Ok(channel),
                FromManager::Refused(why) => return Err(why),
                other => panic!("{other:?}"),
            },
            Incoming::Nothing => std::thread::sleep(Duration::from_millis(1)),
            other => return Err(format!("{other:?}")),
        }
    }
    Err("no answer".to_owned())
}
