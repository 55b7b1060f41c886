//! Owners of the 16384 slots: one strip for each node's view, before and after, with the
//! differences marked.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::record::{SlotMapReport, SlotView, differences};
use super::duration;
use valkey::slots::{SLOT_COUNT, SlotSet};

/// Number of colours for owners. Further owners share colours; the legend keeps the names apart.
const COLOURS: usize = 10;

/// Renders the first and the last map of a trial, and the difference.
pub(super) fn render(maps: &[SlotMapReport]) -> Markup {
    let (Some(first), Some(last)) = (maps.first(), maps.last()) else {
        return html! {};
    };
    let colours = colours(&[first, last]);
    let owners = |map: &SlotMapReport| {
        map.views
            .first()
            .map(|view| view.owners.clone())
            .unwrap_or_default()
    };
    let moved = differences(&owners(first), &owners(last));
    html! {
        figure.slots {
            figcaption { "Slots, as every node sees them" }
            div.maps {
                (map(first, &colours))
                @if maps.len() > 1 { (map(last, &colours)) }
            }
            @if maps.len() > 1 {
                p.note {
                    @if moved.is_empty() { "No slot has another owner afterwards." }
                    @else { (moved.len()) " slots have another owner afterwards: " (moved.summary()) }
                }
                @if !moved.is_empty() { (difference_strip("moved", &moved)) }
            }
        }
    }
}

fn colours(maps: &[&SlotMapReport]) -> BTreeMap<String, usize> {
    let owners = maps
        .iter()
        .flat_map(|map| &map.views)
        .flat_map(|view| view.owners.keys());
    let names: std::collections::BTreeSet<&String> = owners.collect();
    names
        .into_iter()
        .enumerate()
        .map(|(index, name)| (name.clone(), index % COLOURS))
        .collect()
}

fn map(map: &SlotMapReport, colours: &BTreeMap<String, usize>) -> Markup {
    let mut strips: Vec<(&str, &SlotView)> = map
        .views
        .iter()
        .flat_map(|view| view.seen_by.iter().map(move |pod| (pod.as_str(), view)))
        .collect();
    strips.sort_by_key(|(pod, _)| *pod);
    html! {
        div.map {
            h4 { "After " (map.what) " " span.n { "at " (duration(map.at_ms)) } }
            @for (pod, view) in &strips { (strip(pod, view, &map.disputed(view), colours)) }
            @for (pod, why) in &map.silent { div.lane { span.label { (pod) } span.silent { "no view: " (why) } } }
            @if map.views.len() > 1 { p.disagree { "The nodes disagree: " (map.views.len()) " different views." } }
            @if let Some(view) = map.views.first() {
                ul.owners { @for (owner, slots) in &view.owners {
                    li { span class={ "swatch o" (colours.get(owner).copied().unwrap_or(0)) } {} (owner) " "
                        span.n { (slots.len()) " slots: " (slots.summary()) } }
                } }
            }
        }
    }
}

fn strip(pod: &str, view: &SlotView, disputed: &SlotSet, colours: &BTreeMap<String, usize>) -> Markup {
    let assigned: usize = view.owners.values().map(SlotSet::len).sum();
    let dispute = if disputed.is_empty() {
        String::new()
    } else {
        format!(
            ", {} of them seen differently by others: {}",
            disputed.len(),
            disputed.summary()
        )
    };
    html! {
        div.lane {
            span.label title=(pod) { (pod) }
            svg.strip role="img" aria-label={ (pod) " sees " (assigned) " of 16384 slots owned" (dispute) }
                viewBox={ "0 0 " (SLOT_COUNT) " 14" } preserveAspectRatio="none" {
                @for (owner, slots) in &view.owners {
                    @for range in slots.ranges() {
                        rect class={ "o" (colours.get(owner).copied().unwrap_or(0)) } x=(range.start) y="0"
                            width=(range.end - range.start + 1) height="14" { title { (owner) ": " (range) } }
                    }
                }
                @for range in disputed.ranges() { (mark(range.start, range.end)) }
            }
        }
    }
}

fn difference_strip(label: &str, slots: &SlotSet) -> Markup {
    html! {
        div.lane { span.label { (label) }
            svg.strip role="img" aria-label={ "slots with another owner: " (slots.summary()) }
                viewBox={ "0 0 " (SLOT_COUNT) " 14" } preserveAspectRatio="none" {
                @for range in slots.ranges() { (mark(range.start, range.end)) }
            }
        }
    }
}

/// Renders a mark at least a few slots wide: a single slot would be thinner than a pixel.
fn mark(start: u16, end: u16) -> Markup {
    html! { rect.mark x=(start) y="0" width=((end - start + 1).max(24)) height="14" {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(seen_by: &[&str], owners: &[(&str, &str)]) -> SlotView {
        let slots = |text: &str| SlotSet::try_from(text.to_owned()).expect("slots");
        SlotView {
            seen_by: seen_by.iter().map(|pod| (*pod).to_owned()).collect(),
            owners: owners
                .iter()
                .map(|(pod, text)| ((*pod).to_owned(), slots(text)))
                .collect(),
        }
    }

    #[test]
    fn every_node_has_a_strip_and_disputed_slots_are_marked() {
        let report = SlotMapReport {
            what: "install".into(),
            at_ms: 10,
            views: vec![
                view(&["vk-0", "vk-1"], &[("vk-0", "0-99"), ("vk-1", "100-16383")]),
                view(&["vk-2"], &[("vk-0", "0-199"), ("vk-1", "200-16383")]),
            ],
            silent: BTreeMap::from([("vk-3".to_owned(), "connection refused".to_owned())]),
        };
        let text = render(&[report]).into_string();
        assert_eq!(text.matches("class=\"strip\"").count(), 3);
        assert_eq!(
            text.matches("class=\"mark\"").count(),
            1,
            "one node sees 100 slots elsewhere: {text}"
        );
        assert!(text.contains("100 of them seen differently by others: 100-199"));
        assert!(text.contains("The nodes disagree") && text.contains("no view: connection refused"));
    }
}
