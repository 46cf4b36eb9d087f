//! Affinity of threads.

use std::io;

/// The cores that the calling thread may run on, in ascending order.
///
/// Read once, before any thread is pinned: a pinned thread sees its own core alone.
///
/// # Errors
/// The kernel knows more cores than a `cpu_set_t` holds (1024).
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: a `cpu_set_t` is plain integers, so zeros are a valid one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size given.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let cores = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: every index is below CPU_SETSIZE.
    Ok(cores.filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Pins the calling thread to one core of `allowed`, the `index`th, counted round; returns the core.
///
/// # Errors
/// `InvalidInput` when `allowed` is empty or names an impossible core; the kernel's error when the core went away.
pub fn pin_to(allowed: &[usize], index: usize) -> io::Result<usize> {
    let core = match allowed.len() {
        0 => return Err(io::ErrorKind::InvalidInput.into()),
        len => allowed[index % len],
    };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a `cpu_set_t` is plain integers, so zeros are a valid one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index was checked against CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads the size given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(core),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_sees_its_core_alone() {
        let allowed = allowed_cores().unwrap();
        let last = *allowed.last().unwrap();
        let index = allowed.len() * 2 - 1;
        let seen = std::thread::spawn(move || {
            assert_eq!(pin_to(&allowed, index).unwrap(), last);
            allowed_cores().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [last]);
    }

    #[test]
    fn pinning_to_nothing_is_an_error() {
        assert!(pin_to(&[], 0).is_err());
        assert!(pin_to(&[usize::MAX], 0).is_err());
    }
}
