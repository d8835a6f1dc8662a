use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::families::{build, families};

fn open(name: &str, settings: serde_json::Value) -> Result<Arc<dyn Family>, Error> {
    build(name, settings.as_object().expect("a table"), None)
}

fn samplers() -> Vec<&'static str> {
    families().iter().map(|info| info.name).filter(|name| name.starts_with("sampled_")).collect()
}

#[test]
fn members_are_drawn_by_seed_and_differ() {
    for name in samplers() {
        let family = open(name, json!({})).unwrap();
        let described = |seed| format!("{:?}", family.draw(Seed::new(seed)).unwrap().unwrap());
        let all: HashSet<String> = (0..6).map(described).collect();
        assert!(all.len() >= 5, "{name}: {all:?}");
        assert_eq!(described(3), described(3));
        let again = open(name, json!({})).unwrap();
        assert_eq!(format!("{:?}", again.draw(Seed::new(3)).unwrap().unwrap()), described(3), "{name}");
    }
}

#[test]
fn no_member_is_dearer_than_allowed() {
    for name in samplers() {
        let family = open(name, json!({"max_flop": 3e7, "max_bytes": 2e7})).unwrap();
        for seed in 0..8 {
            let member = family.draw(Seed::new(seed)).unwrap().unwrap();
            let Cost { flop, bytes } = member.cost();
            assert!(flop <= 3.0001e7 && bytes <= 2.2e7, "{name} {seed}: {flop:e} {bytes:e} {member:?}");
        }
        let error = open(name, json!({"max_flop": 10.0})).unwrap_err().to_string();
        assert!(error.contains("max_flop") && error.contains("cheapest"), "{error}");
        let error = open(name, json!({"max_bytes": -1.0})).unwrap_err().to_string();
        assert!(error.contains("max_bytes"), "{error}");
    }
}

#[test]
fn ranges_out_of_order_are_refused_by_name() {
    for (name, settings, expected) in [
        ("sampled_image_mlp", json!({"width": [9, 8]}), "width"),
        ("sampled_image_mlp", json!({"layers": [0, 99]}), "layers"),
        ("sampled_image_mlp", json!({"batch_size": [0, 8]}), "batch_size"),
        ("sampled_image_mlp", json!({"data": []}), "data"),
        ("sampled_image_mlp", json!({"data": "blank"}), "data"),
        ("sampled_image_conv", json!({"strides": [2, 1]}), "strides"),
        ("sampled_image_resnet", json!({"blocks": [0, 1]}), "blocks"),
        ("sampled_image_vit", json!({"patch": []}), "patch"),
        ("sampled_image_vit", json!({"patch": [0]}), "patch"),
    ] {
        let error = open(name, settings.clone()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{settings}: {error}");
    }
}

#[test]
fn members_train() {
    for name in samplers() {
        let family = open(name, json!({"max_flop": 2e7})).unwrap();
        for seed in 0..3 {
            let member = family.draw(Seed::new(seed)).unwrap().unwrap();
            let mut lanes = member.bind(&[Seed::new(1), Seed::new(2)]).unwrap();
            let params = lanes.init_params().unwrap();
            let (losses, _) = lanes.loss_and_grads(&params, 0).unwrap();
            assert!(losses.iter().all(|loss| loss.is_finite()), "{member:?}: {losses:?}");
        }
    }
}
