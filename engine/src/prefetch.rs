//! Asks the core to fetch memory that is used soon, so that it is there by then.

#![allow(unsafe_code, reason = "a prefetch reads nothing and cannot fault; the block says more")]

/// Bytes that a core fetches at a time.
const LINE: usize = 64;

/// Asks for the first `bytes` bytes of `value`, or all of it if that is less. Nothing happens on architectures without it.
#[inline]
pub fn prefetch<T>(value: &T, bytes: usize) {
    for offset in (0..bytes.min(size_of::<T>())).step_by(LINE) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the address lies within `value`; the instruction is part of every x86-64 and has no effect that a program sees.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>().add(offset));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }
}
