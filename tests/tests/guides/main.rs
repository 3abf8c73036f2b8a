//! Guides do what they say: their files are written, their commands typed, and what they show is what comes.
//!
//! What a fenced block is stands behind its fence:
//!
//! | block | what is done with it |
//! | --- | --- |
//! | `LANGUAGE file=NAME` | it is written to a file |
//! | `console` | each line behind `$ ` is run; the lines below it come in what it prints, in this order, `…` being anything |
//! | `console fails` | the same, of commands that end with an error |
//! | `console service` | the same, of a command that goes on: it is there when the lines below it have come |
//! | any other | it is shown and not used: the paragraph before it begins with `Not run` and says why |

#![expect(clippy::unwrap_used, reason = "what a test reads is there, or the test fails")]

mod terminal;

use remotemedia_tests::page::{Block, Page};
use terminal::Terminal;

#[tokio::test]
async fn the_guide_to_your_model_as_a_node_does_what_it_says() {
    follow("docs/guide-your-model-as-a-node.md").await;
}

#[tokio::test]
async fn the_page_about_python_nodes_does_what_it_says() {
    follow("docs/python-nodes.md").await;
}

async fn follow(path: &str) {
    let page = Page::read(path);
    let mut terminal = Terminal::open();
    for block in &page.blocks {
        match block {
            Block::File { name, text } => terminal.write(name, text),
            Block::Console(commands) => {
                for command in commands {
                    terminal.run(command).await;
                }
            }
            Block::Service(command) => terminal.start(command).await,
            Block::Shown => {}
        }
    }
    terminal.close().await;
}
