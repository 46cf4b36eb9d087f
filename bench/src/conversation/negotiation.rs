//! What has been agreed with the server: m= sections by offers of either side, and where it is. Source: RFC 8829, RFC 9143.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use sluice_engine::clock::Instant;
use sluice_engine::dtls::{DtlsRole, Fingerprint};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::Ssrc;

use super::addresses::Addresses;
use super::sdp::read::{Candidate, Description, SectionText, Setup};
use super::sdp::write::{Frame, write};
use super::sdp::{Content, Format, Media, Section, Sending};
use super::{Participant, ReceiveFormat, Remote, SendStream, Source, Wish};

/// The descriptions of one client.
///
/// An offer of ours waits in `offered` until [`Negotiation::take_answer`]; an offer of the server takes its place, and it has to be made
/// again from what was agreed then.
pub struct Negotiation {
    session: String,
    local: Credentials,
    fingerprint: Fingerprint,
    /// Whether the participant wants what others send.
    receives: bool,
    rng: fastrand::Rng,
    origin: u64,
    version: u64,
    next_mid: u32,
    sendings: BTreeMap<Source, Sending>,
    agreed: Vec<Section>,
    offered: Option<Vec<Section>>,
    remote: Option<(Credentials, Fingerprint, DtlsRole)>,
    addresses: Addresses,
    sent: Vec<SendStream>,
    received: BTreeMap<u8, ReceiveFormat>,
}

/// What a section that we add is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    Data,
    Source(Source),
    Receiving(Format),
}

impl Negotiation {
    /// Nothing agreed. `server` is where the HTTP API is; `trickles` says whether candidates may come after the description.
    pub fn new(participant: &Participant, server: Option<IpAddr>, trickles: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(participant.seed);
        Self {
            session: participant.session.clone(),
            local: participant.local.clone(),
            fingerprint: participant.fingerprint.clone(),
            receives: participant.receives,
            // Positive as a signed number, as RFC 8829 §5.2.1 wants it.
            origin: rng.u64(1..1 << 62),
            rng,
            version: 0,
            next_mid: 0,
            sendings: BTreeMap::new(),
            agreed: Vec::new(),
            offered: None,
            remote: None,
            addresses: Addresses::new(server, trickles),
            sent: Vec::new(),
            received: BTreeMap::new(),
        }
    }

    /// Offers what was agreed before and these sections.
    pub fn offer(&mut self, added: &[Added]) -> String {
        let mut sections = self.agreed.clone();
        for &added in added {
            let content = match added {
                Added::Data => Content::Data,
                Added::Source(source) => Content::Media(Media::sending(self.sending(source))),
                Added::Receiving(format) => Content::Media(Media::receiving(format)),
            };
            let mid = self.next_mid.to_string();
            self.next_mid += 1;
            sections.push(Section { mid, content });
        }
        let text = self.write("actpass", &sections);
        self.offered = Some(sections);
        text
    }

    /// Our offer that waits for its answer, once more: the server may have had no ear for it.
    pub fn offer_again(&mut self) -> Option<String> {
        let offered = self.offered.clone()?;
        Some(self.write("actpass", &offered))
    }

    /// Whether an offer of ours waits for its answer.
    pub fn is_offering(&self) -> bool {
        self.offered.is_some()
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// It is malformed, or refuses what we need.
    pub fn take_answer(
        &mut self,
        now: Instant,
        text: &str,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        self.apply_answer(text)
            .and_then(|()| self.say(now, wishes))
            .map_err(|why| format!("the server's answer: {why}"))
    }

    fn apply_answer(&mut self, text: &str) -> Result<(), String> {
        let description = Description::parse(text)?;
        let offered = self.offered.take().ok_or("no offer of ours waits for it")?;
        if description.sections.len() != offered.len() {
            let (theirs, ours) = (description.sections.len(), offered.len());
            return Err(format!("it has {theirs} m= sections, our offer has {ours}"));
        }
        let pairs = offered.into_iter().zip(&description.sections);
        self.agreed =
            pairs.map(|(ours, theirs)| answered(ours, theirs)).collect::<Result<_, _>>()?;
        self.learn(&description)
    }

    /// Answers an offer of the server. An offer of ours that waits is gone.
    ///
    /// # Errors
    /// It is malformed.
    pub fn take_offer(
        &mut self,
        now: Instant,
        text: &str,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<String, String> {
        self.offered = None;
        self.apply_offer(text)
            .and_then(|()| {
                let setup = match self.remote {
                    Some((.., DtlsRole::Passive)) => "passive",
                    _ => "active",
                };
                let sections = std::mem::take(&mut self.agreed);
                let answer = self.write(setup, &sections);
                self.agreed = sections;
                self.say(now, wishes).map(|()| answer)
            })
            .map_err(|why| format!("the server's offer: {why}"))
    }

    fn apply_offer(&mut self, text: &str) -> Result<(), String> {
        let description = Description::parse(text)?;
        if description.sections.len() < self.agreed.len() {
            return Err("it leaves out m= sections that were there before".to_owned());
        }
        let mut sections = Vec::new();
        for (at, theirs) in description.sections.iter().enumerate() {
            let mid = theirs.mid().map_or_else(|| at.to_string(), str::to_owned);
            // A name of ours never meets one that the server chose.
            if let Ok(number) = mid.parse::<u32>() {
                self.next_mid = self.next_mid.max(number.saturating_add(1));
            }
            let known = self.agreed.get(at).filter(|section| section.mid == mid);
            let content = self.reply(known.map(|section| &section.content), theirs);
            sections.push(Section { mid, content });
        }
        self.agreed = sections;
        self.learn(&description)
    }

    /// What we make of a section that the server offers.
    fn reply(&self, known: Option<&Content>, theirs: &SectionText<'_>) -> Content {
        if theirs.is_rejected() {
            return Content::Rejected(theirs.rejection());
        }
        if known == Some(&Content::Data) && theirs.is_data() {
            return Content::Data;
        }
        let Some((format, payload_type)) = theirs.format() else {
            return Content::Rejected(theirs.rejection());
        };
        let sends = match known {
            Some(Content::Media(media)) if theirs.receives() => media.sends.clone(),
            _ => None,
        };
        Content::Media(Media {
            format,
            sends,
            receives: self.receives && theirs.sends(),
            payload_type,
            extensions: theirs.extensions(),
            feedback: theirs.feedback(format, payload_type),
        })
    }

    /// A candidate that came by itself.
    ///
    /// # Errors
    /// As [`Negotiation::handle_timeout`].
    pub fn add_candidate(
        &mut self,
        now: Instant,
        candidate: Candidate,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        self.addresses.add(candidate);
        self.connect(now, wishes)
    }

    /// When [`Negotiation::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.addresses.next_deadline()
    }

    /// Goes on with the candidates that are there.
    ///
    /// # Errors
    /// None is usable.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        self.connect(now, wishes)
    }

    fn sending(&mut self, source: Source) -> Sending {
        let rng = &mut self.rng;
        let sending = self.sendings.entry(source).or_insert_with(|| {
            let layer = |&rid| (Ssrc(rng.u32(1..)), rid);
            Sending { source, layers: source.rids().iter().map(layer).collect() }
        });
        sending.clone()
    }

    fn write(&mut self, setup: &'static str, sections: &[Section]) -> String {
        self.version += 1;
        let frame = Frame {
            session: &self.session,
            origin: self.origin,
            version: self.version,
            local: &self.local,
            fingerprint: &self.fingerprint,
            setup,
        };
        write(&frame, sections)
    }

    /// Takes what holds for the transport. The first description decides; servers of these APIs do not restart ICE by themselves.
    fn learn(&mut self, description: &Description<'_>) -> Result<(), String> {
        for candidate in description.candidates() {
            self.addresses.add(candidate);
        }
        if self.remote.is_none() {
            let role = match description.setup()? {
                Setup::Active => DtlsRole::Passive,
                Setup::Passive | Setup::Either => DtlsRole::Active,
            };
            self.remote = Some((description.credentials()?, description.fingerprint()?, role));
        }
        Ok(())
    }

    /// Says what has become known.
    fn say(&mut self, now: Instant, wishes: &mut VecDeque<Wish>) -> Result<(), String> {
        self.connect(now, wishes)?;
        for section in &self.agreed {
            let Content::Media(media) = &section.content else { continue };
            if let Some(sending) = &media.sends {
                let stream = stream(&section.mid, media, sending);
                if !self.sent.contains(&stream) {
                    self.sent.retain(|known| known.source != stream.source);
                    self.sent.push(stream.clone());
                    wishes.push_back(Wish::Send(stream));
                }
            }
            if media.receives {
                let format = receive_format(media);
                if self.received.insert(media.payload_type.0, format) != Some(format) {
                    wishes.push_back(Wish::Receive(format));
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, now: Instant, wishes: &mut VecDeque<Wish>) -> Result<(), String> {
        let Some((credentials, fingerprint, dtls_role)) = &self.remote else { return Ok(()) };
        if let Some(addresses) = self.addresses.choose(now)? {
            wishes.push_back(Wish::Connect(Remote {
                credentials: credentials.clone(),
                fingerprint: fingerprint.clone(),
                dtls_role: *dtls_role,
                addresses,
            }));
        }
        Ok(())
    }
}

/// A section of our offer as the answer leaves it.
fn answered(ours: Section, theirs: &SectionText<'_>) -> Result<Section, String> {
    let Section { mid, content } = ours;
    let content = match content {
        Content::Rejected(line) => Content::Rejected(line),
        Content::Data if theirs.is_rejected() || !theirs.is_data() => {
            return Err("the server takes no data channels".to_owned());
        }
        Content::Data => Content::Data,
        Content::Media(media) => answered_media(media, theirs)?,
    };
    Ok(Section { mid, content })
}

fn answered_media(ours: Media, theirs: &SectionText<'_>) -> Result<Content, String> {
    let kind = ours.format.kind();
    if let Some(sending) = &ours.sends {
        if theirs.is_rejected() || !theirs.receives() {
            return Err(format!("the server does not take the {kind} that we offer"));
        }
        if sending.layers.len() > 1 && !theirs.takes_layers(sending.source.rids()) {
            return Err("the server takes no simulcast over this API".to_owned());
        }
    } else if theirs.is_rejected() {
        return Ok(Content::Rejected(theirs.rejection()));
    }
    let Some((_, number)) = theirs.format().filter(|(format, _)| *format == ours.format) else {
        return Err(format!("its {kind} section is not {}", ours.format.name()));
    };
    let (extensions, feedback) = (theirs.extensions(), theirs.feedback(ours.format, number));
    Ok(Content::Media(Media {
        receives: ours.receives && theirs.sends(),
        // Each side is sent the numbers of its own description. Source: RFC 3264 §6.1.
        payload_type: if ours.sends.is_some() { number } else { ours.payload_type },
        extensions: ours.extensions.into_iter().filter(|e| extensions.contains(e)).collect(),
        feedback: ours.feedback.into_iter().filter(|f| feedback.contains(f)).collect(),
        ..ours
    }))
}

fn stream(mid: &str, media: &Media, sending: &Sending) -> SendStream {
    let layer = |(ssrc, rid): &(Ssrc, Option<&'static str>)| (*ssrc, rid.map(str::to_owned));
    SendStream {
        source: sending.source,
        payload_type: media.payload_type,
        layers: sending.layers.iter().map(layer).collect(),
        mid: mid.to_owned(),
        extensions: media.extension_ids(),
    }
}

fn receive_format(media: &Media) -> ReceiveFormat {
    ReceiveFormat {
        payload_type: media.payload_type,
        is_video: media.format == Format::Vp8,
        transport_cc: media.extension_ids().transport_cc,
        nack: media.has_nack(),
    }
}
