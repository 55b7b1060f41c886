//! Tests of the node, on real containers, in namespaces of their own.

fn main() {
    if std::env::args().nth(1).as_deref() == Some(embedded_cluster::node::HELPER_ARGUMENT) {
        embedded_cluster::node::helper_main();
    }
}
