//! What goes wrong with files.

use std::fmt;

use rustix::io::Errno;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskAction {
    /// Making a file.
    Create,
    /// Writing to one.
    Write,
    /// Reading from one.
    Read,
    /// Deleting one.
    Remove,
}

impl fmt::Display for DiskAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Write => "write to",
            Self::Read => "read from",
            Self::Remove => "delete",
        })
    }
}

/// Why it could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DiskFault {
    /// The device, the quota or the limit on file sizes is reached.
    #[error("no space is left")]
    NoSpace,
    /// The process or the machine has no file descriptors left.
    #[error("too many files are open")]
    TooManyFiles,
    /// Something stands at the name of a new file.
    #[error("something is there already")]
    Exists,
    /// The file or its directory has gone.
    #[error("it has gone")]
    Gone,
    /// Not allowed, or read-only.
    #[error("it is not allowed")]
    Denied,
    /// The file ends before what was asked for.
    #[error("the file is too short")]
    TooShort,
    /// Anything else, by the operating system's number.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Os(i32),
}

impl From<std::io::Error> for DiskFault {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::NoSpace,
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyFiles,
            Some(Errno::EXIST | Errno::LOOP) => Self::Exists,
            Some(Errno::NOENT) => Self::Gone,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Self::Denied,
            Some(other) => Self::Os(other.raw_os_error()),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::TooShort,
            None => Self::Os(Errno::IO.raw_os_error()),
        }
    }
}

/// An operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("cannot {action} a spill file: {fault}")]
pub struct DiskError {
    /// What was being done.
    pub action: DiskAction,
    /// Why it could not be.
    #[source]
    pub fault: DiskFault,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_56_every_way_of_having_no_space_is_the_same_to_those_who_write() {
        let fault = |errno: Errno| DiskFault::from(std::io::Error::from_raw_os_error(errno.raw_os_error()));
        for full in [Errno::DQUOT, Errno::FBIG, Errno::NOSPC] {
            assert_eq!(fault(full), DiskFault::NoSpace);
        }
        assert_eq!(fault(Errno::NFILE), DiskFault::TooManyFiles);
        assert_eq!(fault(Errno::IO), DiskFault::Os(Errno::IO.raw_os_error()));
    }
}
