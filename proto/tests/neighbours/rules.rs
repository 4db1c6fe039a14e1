//! What may change between two versions of the contract: things may be added, and what is taken away has to stay reserved. A number, a
//! type, a label or a name never changes; names are in the JSON.

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// What programs of before would misread, a sentence each.
pub(crate) fn broken(before: &DescriptorPool, now: &DescriptorPool) -> Vec<String> {
    let mut broken = Vec::new();
    for message in before.all_messages().filter(|message| is_ours(message.full_name())) {
        match now.get_message_by_name(message.full_name()) {
            Some(today) => broken.extend(message.fields().filter_map(|field| field_broken(&field, &today))),
            None => broken.push(format!("message {} is gone", message.full_name())),
        }
    }
    for values in before.all_enums().filter(|values| is_ours(values.full_name())) {
        match now.get_enum_by_name(values.full_name()) {
            Some(today) => broken.extend(values_broken(&values, &today)),
            None => broken.push(format!("enum {} is gone", values.full_name())),
        }
    }
    for method in before.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let services = now.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let same = services.filter(|today| today.full_name() == method.full_name()).any(|today| {
            today.input().full_name() == method.input().full_name()
                && today.output().full_name() == method.output().full_name()
                && today.is_client_streaming() == method.is_client_streaming()
                && today.is_server_streaming() == method.is_server_streaming()
        });
        if !same {
            broken.push(format!("method {} is gone, or another one", method.full_name()));
        }
    }
    broken
}

fn is_ours(name: &str) -> bool {
    name.starts_with("lastwords.")
}

fn field_broken(field: &FieldDescriptor, now: &MessageDescriptor) -> Option<String> {
    let (name, number) = (field.full_name(), field.number());
    let Some(today) = now.get_field(number) else {
        let number_reserved = now.reserved_ranges().any(|range| range.contains(&number));
        let name_reserved = now.reserved_names().any(|reserved| reserved == field.name());
        let reserved = number_reserved && name_reserved;
        return (!reserved).then(|| {
            format!("{name} = {number} is gone: neither it nor a reservation of number and name is there")
        });
    };
    if today.name() != field.name() {
        return Some(format!("{name} = {number} is called {} now, and in JSON by that name", today.name()));
    }
    let (was, is) = (kind(field), kind(&today));
    (was != is).then(|| format!("{name} = {number} was {was} and is {is}"))
}

/// Type, label and choice.
fn kind(field: &FieldDescriptor) -> String {
    let label = if field.is_list() {
        "repeated "
    } else if field.supports_presence() {
        "optional "
    } else {
        ""
    };
    let choice = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    let choice = choice.map_or_else(String::new, |oneof| format!(" in oneof {}", oneof.name()));
    match field.kind() {
        Kind::Message(message) => format!("{label}{}{choice}", message.full_name()),
        Kind::Enum(values) => format!("{label}{}{choice}", values.full_name()),
        scalar => format!("{label}{}{choice}", format!("{scalar:?}").to_lowercase()),
    }
}

fn values_broken(before: &EnumDescriptor, now: &EnumDescriptor) -> Vec<String> {
    let broken = before.values().filter(|value| match now.get_value_by_name(value.name()) {
        Some(today) => today.number() != value.number(),
        None => {
            let number = value.number();
            let taken = now.get_value(number).is_some();
            let reserved = now.reserved_ranges().any(|range| range.contains(&number))
                && now.reserved_names().any(|reserved| reserved == value.name());
            taken || !reserved
        }
    });
    broken
        .map(|value| format!("{} = {} is gone, or another number", value.full_name(), value.number()))
        .collect()
}
