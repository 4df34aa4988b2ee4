//! Who listens to keyspace notifications.

use super::{Client, Server};

/// A connection that listens to the events of the module.
pub(crate) struct Listener(Client);

impl Listener {
    /// Listens from now on to what happens to keys, in any database.
    pub(crate) fn new(server: &Server) -> Self {
        server.client().ok("CONFIG SET notify-keyspace-events Kd");
        let mut client = server.client();
        client.run("PSUBSCRIBE __keyspace@*__:*");
        Self(client)
    }

    fn next(&mut self) -> String {
        let message = self.0.read();
        let [_, _, channel, event] = message.items() else { panic!("a message was due: {message:?}") };
        let channel = channel.text();
        format!("{} {}", channel.split_once("__:").unwrap().1, event.text())
    }

    /// These events come next.
    #[track_caller]
    pub(crate) fn hears(&mut self, events: &[&str]) {
        for event in events {
            assert_eq!(self.next(), *event, "of {events:?}");
        }
    }

    /// These events come next, in any order.
    #[track_caller]
    pub(crate) fn hears_in_any_order(&mut self, events: &[&str]) {
        let mut heard: Vec<String> = events.iter().map(|_| self.next()).collect();
        let mut due: Vec<String> = events.iter().map(|event| (*event).to_owned()).collect();
        heard.sort();
        due.sort();
        assert_eq!(heard, due);
    }

    /// Nothing has come that was not heard.
    #[track_caller]
    pub(crate) fn hears_no_more(&mut self, client: &mut Client) {
        client.run("PUBLISH __keyspace@0__:end over");
        self.hears(&["end over"]);
    }
}
