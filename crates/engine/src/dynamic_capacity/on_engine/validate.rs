//! The books of a port agree with each other.

use memtide_units::RequestId;

use super::Port;

impl Port {
    /// The books agree with each other.
    ///
    /// # Panics
    /// When they do not: the rules are broken.
    pub fn validate(&self) {
        self.host.validate();
        for (request, device) in &self.requests {
            assert!(self.asking[device].open.contains(request), "{request} is part of a question");
        }
        for (device, asking) in &self.asking {
            let ours = |request: &&RequestId| self.requests.get(request) == Some(device);
            assert_eq!(asking.open.iter().filter(ours).count(), asking.open.len());
            assert!(!asking.open.is_empty(), "a question has requests");
        }
    }
}
