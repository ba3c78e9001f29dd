//! Message bodies on the wire: by length, in chunks, or until the connection closes (RFC 9112 section 6).

/// How a message body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is no body.
    None,
    /// After this many bytes.
    Known(u64),
    /// With the last chunk, or with the stream in HTTP/2.
    Chunked,
    /// With the connection; only a response can.
    UntilClose,
}

/// What the bytes of a body do not say correctly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The chunks are not as RFC 9112 section 7.1 wants them.
    #[error("the chunks of the body are malformed")]
    Chunk,
    /// The trailer section or a chunk extension is larger than a head may be.
    #[error("the trailer section is too large")]
    TooLarge,
}

/// What stands at the front of the input: bytes to skip, then bytes of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes that only frame the body.
    pub(crate) skip: usize,
    /// Bytes of the body after them.
    pub(crate) data: usize,
}

/// Takes a body out of the bytes that carry it.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// The trailer section with its last empty line, as it came.
    trailers: Vec<u8>,
    /// Bytes that the trailer section and the extensions of one chunk may have.
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    /// In the size of a chunk: the digits so far and how many they are.
    Size(u64, u8),
    /// In a chunk extension of a chunk of this size: the bytes so far.
    Extension(u64, usize),
    /// Before the line feed that ends a size.
    SizeEnd(u64),
    Data(u64),
    /// Before the carriage return (false) or the line feed (true) after a chunk.
    DataEnd(bool),
    Trailers,
    Done,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder of a body; `most` bounds its trailer section.
    pub(crate) fn new(length: Length, most: usize) -> Self {
        let state = match length {
            Length::None | Length::Known(0) => State::Done,
            Length::Known(bytes) => State::Length(bytes),
            Length::Chunked => State::Size(0, 0),
            Length::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Vec::new(), most }
    }

    /// Whether the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection ends the body.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The trailer section, as it came, with the empty line that ends it; empty where there is none.
    pub(crate) fn trailers(&self) -> &[u8] {
        if self.trailers.len() <= 2 { &[] } else { &self.trailers }
    }

    /// Looks at the front of the input. A step of zeros means that more input is needed, or that the body has ended.
    ///
    /// # Errors
    /// When the bytes are not a body.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(Step { skip: at, data: 0 }),
                State::UntilClose => return Ok(Step { skip: at, data: input.len() - at }),
                State::Length(left) | State::Data(left) => {
                    let data = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                    let left = left - data as u64;
                    self.state = match self.state {
                        State::Length(_) if left == 0 => State::Done,
                        State::Length(_) => State::Length(left),
                        _ if left == 0 => State::DataEnd(false),
                        _ => State::Data(left),
                    };
                    return Ok(Step { skip: at, data });
                }
                _ => {}
            }
            let Some(&byte) = input.get(at) else { return Ok(Step { skip: at, data: 0 }) };
            at += 1;
            self.state = self.framing(byte)?;
        }
    }

    /// One byte of what frames chunks.
    fn framing(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size(size, digits), _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                State::Size(size * 16 + u64::from(digit), digits + 1)
            }
            (State::Size(size, 1..), b'\r') => State::SizeEnd(size),
            (State::Size(size, 1..), b';' | b' ' | b'\t') => State::Extension(size, 1),
            (State::Extension(size, _), b'\r') => State::SizeEnd(size),
            (State::Extension(_, bytes), _) if bytes >= self.most => return Err(Malformed::TooLarge),
            (State::Extension(size, bytes), _) if byte != b'\n' => State::Extension(size, bytes + 1),
            (State::SizeEnd(0), b'\n') => State::Trailers,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataEnd(false), b'\r') => State::DataEnd(true),
            (State::DataEnd(true), b'\n') => State::Size(0, 0),
            (State::Trailers, _) if self.trailers.len() >= self.most => return Err(Malformed::TooLarge),
            (State::Trailers, _) => {
                self.trailers.push(byte);
                if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                    State::Done
                } else {
                    State::Trailers
                }
            }
            _ => return Err(Malformed::Chunk),
        })
    }
}

/// The fields of a trailer section that may be passed on: not those that frame or route a message
/// (RFC 9110 section 6.5.1).
pub(crate) fn trailer_fields<'a>(
    section: &'a [u8],
    room: &'a mut [httparse::Header<'a>],
) -> impl Iterator<Item = &'a httparse::Header<'a>> {
    let fields: &[httparse::Header<'a>] = match httparse::parse_headers(section, room) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        _ => &[],
    };
    fields.iter().filter(|field| !FORBIDDEN.iter().any(|name| field.name.eq_ignore_ascii_case(name)))
}

const FORBIDDEN: [&str; 16] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "authorization",
    "x-forwarded-for",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes input that arrives in pieces; gives the body, what was left over, and whether the body ended.
    fn decode(length: Length, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, Decoder), Malformed> {
        let mut decoder = Decoder::new(length, 64);
        let (mut body, mut held) = (Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                let step = decoder.step(&held)?;
                body.extend_from_slice(&held[step.skip..step.skip + step.data]);
                held.drain(..step.skip + step.data);
                if step.data == 0 {
                    break;
                }
            }
        }
        Ok((body, held, decoder))
    }

    #[test]
    fn chunks_with_extensions_and_trailers_are_read() {
        let input = b"4;x=\"y\"\r\nWiki\r\n5 \r\npedia\r\n0\r\nx-sum: 9\r\n\r\nGET";
        let (body, rest, decoder) = decode(Length::Chunked, &[input]).unwrap();
        assert_eq!((body.as_slice(), rest.as_slice()), (&b"Wikipedia"[..], &b"GET"[..]));
        assert!(decoder.is_done());
        assert_eq!(decoder.trailers(), b"x-sum: 9\r\n\r\n");
        let mut room = [httparse::EMPTY_HEADER; 4];
        assert_eq!(trailer_fields(decoder.trailers(), &mut room).count(), 1);
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        for wrong in [
            "\r\n",
            "g\r\n",
            "4\nWiki",
            "4\r\nWikiX",
            "4\r\nWiki\n",
            "-1\r\n",
            "0x4\r\n",
            " 4\r\n",
            "4;a\nb\r\n",
            "0000000000000004\r\n",
            "ffffffffffffffffff\r\n",
        ] {
            assert_eq!(decode(Length::Chunked, &[wrong.as_bytes()]).unwrap_err(), Malformed::Chunk, "{wrong:?}");
        }
    }

    #[test]
    fn trailers_and_extensions_are_bounded() {
        for start in ["0\r\n", "4;"] {
            let input = start.to_owned() + &"a".repeat(100);
            assert_eq!(decode(Length::Chunked, &[input.as_bytes()]).unwrap_err(), Malformed::TooLarge);
        }
    }

    proptest! {
        #[test]
        fn a_chunked_body_is_read_whatever_pieces_it_comes_in(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
            cuts in prop::collection::vec(1usize..20, 0..40),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nnext");
            let (mut pieces, mut rest) = (Vec::new(), wire.as_slice());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let (body, left, decoder) = decode(Length::Chunked, &pieces).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(left, b"next");
            prop_assert!(decoder.is_done() && decoder.trailers().is_empty());
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Length::Chunked, &[&input]);
        }
    }
}
