//! What all pages have in common: the frame with its landmarks, and tables that are cards on a phone.

use maud::{DOCTYPE, Markup, html};

use super::login::Visitor;

/// A whole page, the same for everybody. `trail` leads to it: addresses and names.
pub(super) fn frame(title: &str, trail: &[(&str, &str)], main: Markup) -> Markup {
    frame_for(&Visitor::Reader, title, trail, main)
}

/// A whole page for somebody.
pub(super) fn frame_for(visitor: &Visitor, title: &str, trail: &[(&str, &str)], main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Paceline" }
                link rel="stylesheet" href="/assets/style.css";
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                script src="/assets/live.js" defer {}
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    a.name href="/" { "Paceline" }
                    p { "coordinator " (env!("CARGO_PKG_VERSION")) }
                    (visitor.markup())
                    p #link role="status" {}
                }
                @if !trail.is_empty() {
                    nav aria-label="Breadcrumb" { @for (address, name) in trail { a href=(address) { (name) } " / " } (title) }
                }
                main #main tabindex="-1" { (main) }
                p #said .unseen role="status" {}
                footer {
                    p {
                        @if *visitor == Visitor::Reader { "This page only shows. " }
                        "Runs are begun and steered with " code { "paceline run" } "; for programs: "
                        a href="/metrics" { "metrics" } ", " a href="/readyz" { "readiness" } ", " a href="/version" { "version" } "."
                    }
                }
            }
        }
    }
}

/// One cell of a table.
pub(super) enum Cell {
    /// Something to show.
    Shown(Markup),
    /// Nothing is known.
    None,
}

impl Cell {
    /// Text.
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        if text.is_empty() { Self::None } else { Self::Shown(html! { (text) }) }
    }

    /// Text, if there is any.
    pub(super) fn maybe(text: Option<String>) -> Self {
        text.map_or(Self::None, Self::text)
    }
}

/// A table whose first column names the row. The roles keep it a table for screen readers where styles make rows cards.
pub(super) fn table(caption: &str, columns: &[&str], rows: Vec<(Markup, Vec<Cell>)>) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" { @for column in columns { th scope="col" role="columnheader" { (column) } } }
            }
            tbody role="rowgroup" {
                @for (name, cells) in rows {
                    tr role="row" {
                        th scope="row" role="rowheader" { (name) }
                        @for (column, cell) in columns.iter().skip(1).zip(cells) {
                            @match cell {
                                Cell::Shown(shown) => td role="cell" data-label=(column) { span { (shown) } },
                                Cell::None => td.none role="cell" data-label=(column) { span { "–" } },
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_stays_text() {
        let bad = "<script>alert(1)</script>\"'&";
        let rows = vec![(html! { (bad) }, vec![Cell::text(bad), Cell::text("")])];
        let page = frame(bad, &[("/", bad)], table(bad, &["run", bad, "x"], rows)).into_string();
        assert_eq!(page.matches("<script").count(), 1, "only our own: {page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(page.contains("class=\"none\""), "an empty cell says that nothing is known: {page}");
    }
}
