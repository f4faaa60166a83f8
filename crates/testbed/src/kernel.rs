//! The kernel that is booted, and its modules.
//!
//! It is the distribution's, from its package, unpacked and not installed: `boot/vmlinuz-RELEASE`
//! and `lib/modules/RELEASE`. A package that was only unpacked has no `modules.dep` (depmod writes
//! that on installation), so a module's dependencies are read from where depmod has them from: the
//! `depends=` of its `.modinfo` section, a list of NUL-terminated texts (kernel `scripts/mod/
//! modpost.c`, `add_depends`).

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error,
    needs::REMEDY,
    places::{self, KERNEL_VARIABLE, output_of},
};

/// An unpacked kernel package.
#[derive(Clone, Debug)]
pub struct Kernel {
    image: PathBuf,
    release: String,
    /// Where each module is, by the name that the kernel knows it by.
    modules: BTreeMap<String, PathBuf>,
    /// Those that are part of the image.
    built_in: BTreeSet<String>,
}

/// A module, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Module {
    /// The kernel's name of it: with `_`, without suffix.
    pub name: String,
    /// What must be loaded before it, in this order.
    pub needs: Vec<String>,
    /// The decompressed object file.
    pub content: Vec<u8>,
}

impl Kernel {
    /// The kernel in `MEMTIDE_TESTBED_KERNEL`, or else where `cargo xtask vm setup` puts it.
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self, Error> {
        let folder = env::var_os(KERNEL_VARIABLE)
            .map_or_else(|| places::target().join("testbed/kernel"), PathBuf::from);
        Self::in_folder(&folder)
    }

    /// The kernel that was unpacked into this folder; the newest by name if there are several.
    ///
    /// # Errors
    /// If there is none, or it has no modules.
    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        let missing = |what: String| Error::Missing { what, remedy: REMEDY.to_owned() };
        let boot = folder.join("boot");
        let images = names(&boot)
            .map_err(|_| missing(format!("unpacked kernel in {}", folder.display())))?;
        let release = images
            .iter()
            .filter_map(|name| name.strip_prefix("vmlinuz-"))
            .max_by_key(|release| numbers(release))
            .ok_or_else(|| missing(format!("vmlinuz-* in {}", boot.display())))?;
        // A system whose /lib is /usr/lib has packages that say so.
        let tree = ["lib/modules", "usr/lib/modules"]
            .map(|modules| folder.join(modules).join(release))
            .into_iter()
            .find(|tree| tree.is_dir())
            .ok_or_else(|| missing(format!("modules of {release} in {}", folder.display())))?;
        let mut modules = BTreeMap::new();
        collect_modules(&tree.join("kernel"), &mut modules)?;
        let list = tree.join("modules.builtin");
        let list = fs::read_to_string(&list).map_err(Error::file(&list))?;
        Ok(Self {
            image: boot.join(format!("vmlinuz-{release}")),
            release: release.to_owned(),
            modules,
            built_in: list.lines().filter_map(module_name).collect(),
        })
    }

    /// The file to boot.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Its release, as `uname -r` says it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The numbers in front of its release: 6, 12, 95.
    #[must_use]
    pub fn version(&self) -> Vec<u64> {
        numbers(&self.release)
    }

    /// Whether a module is part of the image.
    #[must_use]
    pub fn has_built_in(&self, module: &str) -> bool {
        self.built_in.contains(&module.replace('-', "_"))
    }

    /// These modules and all that they need, each after what it needs: the order of
    /// `modprobe --show-depends`. What is built into the kernel is left out.
    ///
    /// # Errors
    /// If there is no such module, or it cannot be decompressed.
    pub fn modules<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Module>, Error> {
        let mut ordered = Vec::new();
        for name in names {
            self.add_module(name, &mut ordered)?;
        }
        Ok(ordered)
    }

    /// The dependencies of a module have no circle: depmod would have refused the package.
    fn add_module(&self, name: &str, ordered: &mut Vec<Module>) -> Result<(), Error> {
        let name = name.replace('-', "_");
        if self.has_built_in(&name) || ordered.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let path = self.modules.get(&name).ok_or_else(|| Error::NoSuchModule {
            name: name.clone(),
            release: self.release.clone(),
        })?;
        let content = decompressed(path)?;
        let mut needs = Vec::new();
        for needed in dependencies(&content) {
            self.add_module(&needed, ordered)?;
            let Some(needed) = ordered.iter().find(|module| module.name == needed) else {
                continue;
            };
            for name in needed.needs.iter().chain([&needed.name]) {
                if !needs.contains(name) {
                    needs.push(name.clone());
                }
            }
        }
        ordered.push(Module { name, needs, content });
        Ok(())
    }
}

fn collect_modules(directory: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    for name in names(directory)? {
        let path = directory.join(&name);
        if path.is_dir() {
            collect_modules(&path, modules)?;
        } else if let Some(module) = module_name(&name) {
            modules.insert(module, path);
        }
    }
    Ok(())
}

/// The kernel's name of the module in a file such as `kernel/fs/fuse/virtio-fs.ko.xz`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    file.split_once(".ko").map(|(stem, _)| stem.replace('-', "_"))
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(directory).map_err(Error::file(directory))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The numbers at the front of a release, so that 6.12 is newer than 6.9.
fn numbers(release: &str) -> Vec<u64> {
    let front = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
    front.split('.').map_while(|number| number.parse().ok()).collect()
}

fn decompressed(path: &Path) -> Result<Vec<u8>, Error> {
    let program = match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(Error::file(path)),
    };
    output_of(Command::new(program).arg("-dc").arg(path))
}

fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let text = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"\x7fELF..\0license=GPL\0depends=dax,cxl_core\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["dax", "cxl_core"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"depends").is_empty());
        assert_eq!(dependencies(b"\0depends=cut off"), ["cut off"]);
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert_eq!(numbers("6.12.95+deb12-amd64"), [6, 12, 95]);
        assert!(numbers("6.12.95+deb12-amd64") > numbers("6.9.1"));
        assert!(numbers("mainline").is_empty());
    }

    #[test]
    fn a_folder_without_a_kernel_says_how_to_get_one() {
        let error = Kernel::in_folder(Path::new("/proc/self/nothing")).expect_err("no kernel");
        assert!(error.to_string().contains("cargo xtask vm setup"), "{error}");
    }
}
