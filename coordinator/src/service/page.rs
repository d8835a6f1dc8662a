//! Pages of a list.
//!
//! A page token is opaque to clients: the mark after which the next page begins, in hexadecimal, behind a checksum that
//! also covers the list's name. A token that was made up, damaged or taken from another list is refused by name; a
//! sound one stays good through restarts.

use paceline_proto::fault::{Fault, FieldFault};

/// Entries of a page when the request does not say.
const DEFAULT_SIZE: usize = 50;
/// Most entries of a page; a request for more gets this many.
const LARGEST_SIZE: usize = 1000;
/// Hexadecimal digits of the checksum.
const CHECK_DIGITS: usize = 8;

/// Where a page begins: after this mark, or at the front.
pub(super) fn position(list: &str, token: &str) -> Result<Option<String>, Fault> {
    if token.is_empty() {
        return Ok(None);
    }
    let mark = token.get(CHECK_DIGITS..).and_then(text).filter(|mark| token == token_for(list, mark));
    mark.map(Some).ok_or_else(|| {
        let reason = "is not from an answer about this list: leave it empty to begin at the front".to_owned();
        Fault::FieldsInvalid(vec![FieldFault { field: "page_token".into(), reason }])
    })
}

/// The first page of what is left, and the token of the page after it (empty at the end). `mark` names an entry.
pub(super) fn first<T>(mut rest: Vec<T>, list: &str, page_size: u32, mark: impl Fn(&T) -> String) -> (Vec<T>, String) {
    let size = size(page_size);
    if rest.len() <= size {
        return (rest, String::new());
    }
    rest.truncate(size);
    let next = rest.last().map(|entry| token_for(list, &mark(entry))).unwrap_or_default();
    (rest, next)
}

/// Entries of a page for which this many were asked.
pub(super) fn size(asked: u32) -> usize {
    match asked as usize {
        0 => DEFAULT_SIZE,
        size => size.min(LARGEST_SIZE),
    }
}

/// The token of the page after this mark.
pub(super) fn token_for(list: &str, mark: &str) -> String {
    let check = crc32c::crc32c(format!("{list}\n{mark}").as_bytes());
    mark.bytes().fold(format!("{check:08x}"), |token, byte| token + &format!("{byte:02x}"))
}

/// Text from its hexadecimal digits.
fn text(digits: &str) -> Option<String> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    String::from_utf8(digits.as_bytes().chunks(2).map(pair).collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_once() {
        let all: Vec<u32> = (0..107).collect();
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let after = position("runs", &token).unwrap();
            let rest = match after {
                None => all.clone(),
                Some(mark) => all.iter().copied().skip_while(|n| n.to_string() != mark).skip(1).collect(),
            };
            let (page, next) = first(rest, "runs", 20, u32::to_string);
            assert!(page.len() <= 20);
            seen.extend(page);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn sizes_have_a_default_and_a_bound() {
        for (asked, given) in [(0, 50), (7, 7), (1000, 1000), (1001, 1000), (u32::MAX, 1000)] {
            assert_eq!(first(vec![(); 2000], "runs", asked, |()| String::new()).0.len(), given);
        }
    }

    #[test]
    fn tokens_that_are_not_ours_are_refused() {
        let good = token_for("runs", "velo-0a1b2c3d");
        assert_eq!(position("runs", &good).unwrap().as_deref(), Some("velo-0a1b2c3d"));
        let mut forged = good.clone();
        forged.replace_range(9..10, if &forged[9..10] == "0" { "1" } else { "0" });
        let upper = good.to_uppercase();
        for token in [forged.as_str(), &upper, "x", "12345678", "🦀🦀🦀", "zzzzzzzzzz", &good[..good.len() - 1]] {
            let fault = position("runs", token).unwrap_err();
            assert!(fault.to_string().contains("page_token: is not from"), "{token:?}: {fault}");
        }
        assert!(position("checkpoints/velo-0a1b2c3d", &good).is_err(), "a token of another list");
    }
}
