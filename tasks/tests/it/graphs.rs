//! What only families on graphs promise.

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use paceline_tasks::{Panel, build};
use serde_json::json;

use super::{family, settings};

#[test]
fn the_penalty_is_on_the_first_layer_and_on_training_alone() {
    for (name, first) in [("graph_gcn", &["w"][..]), ("graph_gat", &["w"]), ("graph_sage", &["own", "neighbour"])] {
        let with = |l2: f64| family(name, json!({"l2": l2, "dropout": 0.0}));
        let (plain, penalised) = (with(0.0), with(0.25));
        let (mut plain, mut penalised) =
            (plain.bind(&[Seed::new(1)]).unwrap(), penalised.bind(&[Seed::new(1)]).unwrap());
        let params = plain.init_params().unwrap();
        let matrices = first.iter().map(|part| format!("layer_0/{part}"));
        let squares: f64 = matrices
            .map(|matrix| {
                let index = params.layout().tensors().iter().position(|spec| spec.name() == matrix).unwrap();
                params.lane(index, 0).iter().map(|&value| f64::from(value).powi(2)).sum::<f64>()
            })
            .sum();
        let loss = |lanes: &mut Box<dyn paceline_optimizer_core::task::TaskLanes + '_>, split| {
            f64::from(lanes.evaluate(&params, split, 0).unwrap()[0].loss)
        };
        let difference = loss(&mut penalised, Split::Train) - loss(&mut plain, Split::Train);
        assert!((difference / (0.125 * squares) - 1.0).abs() < 1e-4, "{name}: {difference} of {squares}");
        for split in [Split::InnerValid, Split::OuterValid, Split::Test] {
            assert_eq!(loss(&mut penalised, split), loss(&mut plain, split), "{name}");
        }
    }
}

#[test]
fn tasks_share_a_graph_or_draw_their_own() {
    for (graph, same) in [("family", true), ("task", false)] {
        let family = build("graph_gcn", &settings(json!({"graph": graph, "nodes": 100})), None).unwrap();
        let classes = |seed| match &family.panels(Seed::new(seed))[..] {
            [Panel::Graph { nodes, edges, .. }] => {
                assert!(nodes.len() == 100 && !edges.is_empty());
                let mut counts = nodes.clone();
                counts.sort_unstable();
                (counts, edges.len())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(classes(1) == classes(2), same, "{graph}");
    }
}

#[test]
fn molecules_are_shown_with_their_atoms() {
    let panels = family("graph_molecules", json!({})).panels(Seed::new(1));
    assert_eq!(panels.len(), 6);
    for panel in panels {
        let Panel::Graph { nodes, edges, title } = panel else { panic!("molecules are graphs") };
        // A molecule hangs together: at least a tree, and as many bonds more as it has rings.
        let rings: usize = title.split(' ').next().unwrap().parse().unwrap();
        assert!((6..=12).contains(&nodes.len()) && nodes.iter().all(|&element| element < 4));
        assert_eq!(edges.len() + 1, nodes.len() + rings, "{title}");
    }
}
