//! Receiving from a unix socket together with the descriptors that ride along.
#![expect(unsafe_code, reason = "nix drops the descriptors of a truncated message without closing them")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

use super::channel::MAX_FRAME_FDS;

/// What one `recvmsg` brought.
pub(super) struct Received {
    /// Bytes written to the buffer; 0 is end-of-file, for no one asks for 0 bytes.
    pub(super) bytes: usize,
    pub(super) fds: Vec<OwnedFd>,
    /// Descriptors were sent that did not fit, or for which this process has no numbers left.
    pub(super) truncated: bool,
}

/// Bytes of the descriptors that one frame may bring.
const FD_BYTES: u32 = 32;

const _: () = assert!(FD_BYTES as usize == MAX_FRAME_FDS * size_of::<RawFd>());

/// Room for one control message with as many descriptors as a frame may bring.
const CONTROL_BYTES: usize = {
    // SAFETY: computes a number from a number.
    unsafe { libc::CMSG_SPACE(FD_BYTES) as usize }
};

/// Aligned as the kernel writes it.
#[repr(C)]
union ControlBuffer {
    header: libc::cmsghdr,
    bytes: [u8; CONTROL_BYTES],
}

/// Reads what is there, up to the buffer's length. Every descriptor that came is owned by the answer, also when
/// others were cut off.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut parts = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = MaybeUninit::<ControlBuffer>::zeroed();
    // SAFETY: all zeroes is a valid msghdr: null pointers and lengths of 0.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    message.msg_iov = &raw mut parts;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the message points to the caller's buffer and to `control`, with their true lengths; both outlive the
    // call, and nothing else refers to them meanwhile.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let bytes = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the message was filled by the call just above, and is walked this once.
    let fds = unsafe { take_fds(&message) };
    Ok(Received { bytes, fds, truncated: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Takes ownership of all descriptors in a message.
///
/// # Safety
/// `recvmsg` has filled the message, its control buffer still lives, and nobody else takes its descriptors.
unsafe fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the message's control pointer and length are those that the kernel has set.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: the walk gives null or an aligned header wholly within the control buffer.
        let header = unsafe { next.read() };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the header was found by the walk, so its data follow it in the buffer.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: computes a number from a number.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = header.cmsg_len.saturating_sub(overhead) / size_of::<RawFd>();
            for nth in 0..count {
                // SAFETY: `nth` is below the number of descriptors that the kernel wrote here; the length it sets is
                // that of what it wrote, also when others were cut off.
                let place = unsafe { data.cast::<RawFd>().add(nth) };
                // SAFETY: as above; the data of a control message need not be aligned for us.
                let number = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has opened this descriptor for us, and the walk visits it once.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: `next` is a header of this message.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    fds
}
