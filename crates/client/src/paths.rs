//! Where a daemon's socket is.
//!
//! The *runtime directory* is `$XDG_RUNTIME_DIR/memtide`, else `/run/memtide` for root, else
//! `/tmp/memtide-UID`. A daemon that serves the machine or the user listens there at
//! `memtide.sock`; one that `memtide run` started for a single program at `memtide-run-PID.sock`.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::request::{ClientError, is_served};

/// Names the socket when the command line does not; `memtide run` sets it for its program.
pub const SOCKET_VARIABLE: &str = "MEMTIDE_SOCKET";

/// Where sockets are, unless somebody says otherwise.
#[must_use]
pub fn runtime_directory() -> PathBuf {
    let uid = rustix::process::geteuid();
    match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path.join("memtide"),
        _ if uid.is_root() => PathBuf::from("/run/memtide"),
        _ => PathBuf::from(format!("/tmp/memtide-{}", uid.as_raw())),
    }
}

/// Where a daemon listens that serves more than one program.
#[must_use]
pub fn default_socket() -> PathBuf {
    runtime_directory().join("memtide.sock")
}

/// Where the daemon of one `memtide run` listens.
#[must_use]
pub fn private_socket(pid: u32) -> PathBuf {
    runtime_directory().join(format!("memtide-run-{pid}.sock"))
}

/// Why the runtime directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It cannot be made or looked at.
    #[error("cannot use the directory {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could put their own sockets into it.
    #[error(
        "the directory {} is not safe (owner {owner}, mode {mode:o}): expected a directory of user \
         {user} that nobody else can write to",
        path.display()
    )]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// Whose it should be.
        user: u32,
    },
}

/// Makes the directory in which a socket of ours is to be, if it is the runtime directory; sees to
/// it that nobody else can put anything there.
///
/// # Errors
/// [`DirectoryError`].
pub fn prepare_directory_of(socket: &Path) -> Result<(), DirectoryError> {
    let directory = runtime_directory();
    if socket.parent() != Some(&directory) {
        return Ok(());
    }
    let failed = |source| DirectoryError::Io { path: directory.clone(), source };
    let uid = rustix::process::geteuid();
    let mode = if directory == Path::new("/run/memtide") { 0o755 } else { 0o700 };
    match fs::DirBuilder::new().mode(mode).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    check_directory(&directory, uid.as_raw())
}

fn check_directory(path: &Path, user: u32) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let mode = found.mode() & 0o7777;
    if !found.is_dir() || found.uid() != user || mode & 0o022 != 0 {
        let owner = found.uid();
        return Err(DirectoryError::Unsafe { path: path.to_owned(), owner, mode, user });
    }
    Ok(())
}

/// The socket to talk to: the one that is named, else by [`SOCKET_VARIABLE`], else the default
/// one if a daemon is there, else the only one in the runtime directory at which one is.
///
/// # Errors
/// [`ClientError::NoDaemon`] when there is none, [`ClientError::SeveralDaemons`] when there is no
/// telling which.
pub fn find_socket(named: Option<PathBuf>) -> Result<PathBuf, ClientError> {
    let from_variable = || env::var_os(SOCKET_VARIABLE).map(PathBuf::from);
    if let Some(path) = named.or_else(from_variable) {
        return Ok(path);
    }
    let default = default_socket();
    if is_served(&default) {
        return Ok(default);
    }
    let mut found = private_sockets(&runtime_directory());
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(ClientError::NoDaemon { path: default }),
        (Some(last), false) => {
            found.push(last);
            Err(ClientError::SeveralDaemons { paths: found })
        }
    }
}

fn private_sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut sockets: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("memtide-run-") && name.ends_with(".sock")
        })
        .map(|entry| entry.path())
        .filter(|path| is_served(path))
        .collect();
    sockets.sort();
    sockets
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use memtide_sys::socket;

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_not_used() {
        let path = env::temp_dir().join(format!("memtide-paths-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let user = rustix::process::geteuid().as_raw();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        check_directory(&path, user).unwrap();
        assert!(check_directory(&path, user + 1).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = check_directory(&path, user).unwrap_err();
        assert!(error.to_string().contains("777"), "{error}");
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn only_sockets_with_a_daemon_are_found() {
        let directory = env::temp_dir().join(format!("memtide-find-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (live, dead) =
            (directory.join("memtide-run-1.sock"), directory.join("memtide-run-2.sock"));
        let _listener = socket::listen(&live, 0o600, 8).unwrap();
        drop(socket::listen(&dead, 0o600, 8).unwrap());
        assert_eq!(private_sockets(&directory), [live]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
