//! Messages with every field filled, by their descriptors alone: what is added to the contract is in them by itself.

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

/// No message of ours is deeper; one that held itself would go on for ever.
const DEEPEST: usize = 8;

/// The message filled, once for each choice of its `oneof`s, with values of enums that `known` has.
pub(crate) fn every_way(of: &MessageDescriptor, known: &DescriptorPool) -> Vec<DynamicMessage> {
    let choices = of.oneofs().filter(|oneof| !oneof.is_synthetic()).map(|oneof| oneof.fields().len()).max();
    (0..choices.unwrap_or(1)).map(|choice| filled(of, known, choice, DEEPEST)).collect()
}

fn filled(of: &MessageDescriptor, known: &DescriptorPool, choice: usize, deeper: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        let is_chosen = match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            Some(oneof) => oneof.fields().nth(choice.min(oneof.fields().len() - 1)) == Some(field.clone()),
            None => true,
        };
        if is_chosen && let Some(value) = value(&field, known, deeper) {
            message.set_field(&field, value);
        }
    }
    message
}

fn value(field: &FieldDescriptor, known: &DescriptorPool, deeper: usize) -> Option<Value> {
    if field.is_map() {
        let kind = field.kind();
        let entry = kind.as_message()?.map_entry_value_field();
        let entries = [(MapKey::String("key".to_owned()), value(&entry, known, deeper)?)];
        return Some(Value::Map(entries.into_iter().collect()));
    }
    let number = field.number();
    let signed = i32::try_from(number).unwrap();
    let one = match field.kind() {
        Kind::Double => Value::F64(f64::from(number) + 0.5),
        Kind::Float => Value::F32(0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(signed),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::from(signed)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(number)),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(field.name().to_owned()),
        Kind::Bytes => Value::Bytes(field.name().to_owned().into_bytes().into()),
        Kind::Message(message) if deeper > 0 => Value::Message(filled(&message, known, 0, deeper - 1)),
        Kind::Message(_) => return None,
        Kind::Enum(values) => {
            let values = known.get_enum_by_name(values.full_name()).unwrap_or(values);
            Value::EnumNumber(values.values().map(|value| value.number()).max()?)
        }
    };
    Some(if field.is_list() { Value::List(vec![one]) } else { one })
}

/// Leaves what the message's own descriptor knows, in it and in all that it holds.
pub(crate) fn forget_unknown(message: &mut DynamicMessage) {
    message.take_unknown_fields().for_each(drop);
    let fields: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        match message.get_field_mut(&field) {
            Value::Message(inner) => forget_unknown(inner),
            Value::List(values) => {
                for inner in values.iter_mut().filter_map(Value::as_message_mut) {
                    forget_unknown(inner);
                }
            }
            _ => {}
        }
    }
}
