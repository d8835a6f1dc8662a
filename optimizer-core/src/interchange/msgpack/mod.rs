//! MessagePack, as much of it as flax writes: a reader that borrows and a writer.
//!
//! ```text
//!  82 │ a1 77 │ c7 16 01 │ 93 …            two entries │ "w" │ extension 1 of 22 bytes │ its payload, a document again
//!  └ Map(2)  └ Text    └ Extension             ▲
//!                                              └ nothing is copied: an item points into the file
//! ```
//!
//! The reader keeps nothing but its place, so what a file *declares* costs nothing: a length is compared with the bytes
//! that are left before anyone may act on it. Source: the MessagePack specification (github.com/msgpack/msgpack).

mod read;
mod write;

pub(super) use read::{Item, Reader};
pub(super) use write::Writer;
