#!/usr/bin/env python3
"""The key schedule of protocol.md, derived a second time.

Written from the text of docs/protocol.md, sections 2, 4 and 6, with nothing but Python's hashlib and
hmac. Its output is frozen as vpnmesh-transport/tests/vectors/key-schedule-1.json, which the tests of
the crate compare with what the product derives.

    python3 docs/key-schedule.py > vpnmesh-transport/tests/vectors/key-schedule-1.json
"""

import hashlib
import hmac
import json


# RFC 5869 with SHA-256.
def hkdf(salt, ikm, info, length):
    prk = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    block, out, count = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([count]), hashlib.sha256).digest()
        out, count = out + block, count + 1
    return out[:length]


# "info is the label, a zero byte, then each part behind its length in two bytes."
def framed(label, parts):
    text = ("vpnmesh v1 " + label).encode() + b"\0"
    return text + b"".join(len(part).to_bytes(2, "little") + part for part in parts)


def derive(salt, ikm, label, parts=(), length=32):
    return hkdf(salt, ikm, framed(label, parts), length)


def digest(label, parts):
    return hashlib.sha256(framed(label, parts)).digest()


def keyed(key, text, size=16):
    return hashlib.blake2s(text, key=key, digest_size=size).digest()


def fill(start, length):
    """Bytes that count up from `start`."""
    return bytes((start + i) % 256 for i in range(length))


def u32(number):
    return number.to_bytes(4, "little")


def u64(number):
    return number.to_bytes(8, "little")


PROFILES = {"light": 1, "standard": 2, "high": 3}
CIPHERS = {"aes-128-gcm": 1, "aes-256-gcm": 2, "chacha20-poly1305": 3}
HYBRID, CLASSICAL = 0, 1


# Section 2: psk2 of an answer and of a refusal, and the root.
def handshake(profile, cipher, site_secret, hash_len, ciphertext_len):
    code = PROFILES[profile]
    h1, final = fill(0x10, hash_len), fill(0x20, hash_len)
    kem_secret, ciphertext = fill(0x30, 32), fill(0x40, ciphertext_len)
    first, second = fill(0x50, 32), fill(0x60, 32)
    salt = site_secret or bytes(32)
    context = bytes([code, HYBRID])
    answer = digest("transcript", [h1, digest("ciphertext", [ciphertext])])
    return {
        "profile": profile,
        "cipher": cipher,
        "site_secret": site_secret.hex() if site_secret else None,
        "hash_after_message_1": h1.hex(),
        "kem_secret": kem_secret.hex(),
        "kem_ciphertext": ciphertext.hex(),
        "final_hash": final.hex(),
        "raw_split": [first.hex(), second.hex()],
        "psk2": derive(salt, kem_secret, "psk2", [context, answer]).hex(),
        "psk2_refusal": derive(salt, b"", "refusal", [context, digest("transcript", [h1])]).hex(),
        "root": derive(final, first + second, "root", [bytes([code, CIPHERS[cipher]])]).hex(),
        "binding": digest("binding", [final]).hex(),
    }


# Section 2: the same without ML-KEM.
def classical(profile, cipher, site_secret, hash_len):
    code = PROFILES[profile]
    h1, final = fill(0x11, hash_len), fill(0x21, hash_len)
    first, second = fill(0x51, 32), fill(0x61, 32)
    salt = site_secret or bytes(32)
    parts = [bytes([code, CLASSICAL]), digest("transcript", [h1])]
    return {
        "profile": profile,
        "cipher": cipher,
        "site_secret": site_secret.hex() if site_secret else None,
        "hash_after_message_1": h1.hex(),
        "final_hash": final.hex(),
        "raw_split": [first.hex(), second.hex()],
        "psk2": derive(salt, b"", "classical psk2", parts).hex(),
        "psk2_refusal": derive(salt, b"", "refusal", parts).hex(),
        "root": derive(final, first + second, "root", [bytes([code, CIPHERS[cipher]])]).hex(),
        "binding": digest("binding", [final]).hex(),
    }


# Section 2: the commitment to the chunks of a KEM key, mac1, and the key of what goes back.
def opening(profile, key_len, chunks):
    key, responder, initiator, text = fill(0x01, key_len), fill(0x71, 32), fill(0x72, 32), fill(0x73, 100)
    piece = key_len // chunks
    leaves = [digest("chunk", [bytes([i]), key[i * piece : (i + 1) * piece]]) for i in range(chunks)]
    mac1 = keyed(digest("mac1", [responder]), text)
    return {
        "profile": profile,
        "kem_key": key.hex(),
        "chunks": chunks,
        "commitment": digest("commit", [bytes([PROFILES[profile]]), b"".join(leaves)]).hex(),
        "responder": responder.hex(),
        "initiator": initiator.hex(),
        "datagram": text.hex(),
        "mac1": mac1.hex(),
        "mac_back": keyed(digest("mac back", [initiator, mac1]), text).hex(),
    }


# Section 4: branches, moves, generations.
def session(profile, cipher, generation, branch, number):
    root, handshake_hash = fill(0x80, 32), fill(0x90, 32)
    session_id, holder_key, static = fill(0xA0, 16), fill(0xB0, 32), fill(0xC0, 32)
    holder, counter, random, nonce = 0x0102030405060708, 9, fill(0xD0, 16), fill(0xE0, 16)
    client_random, primary_random = fill(0xF0, 32), fill(0x08, 32)
    suite = bytes([branch, PROFILES[profile], CIPHERS[cipher]])
    parts = [session_id, u32(generation), suite, u64(holder), holder_key, handshake_hash]
    secret = derive(b"", root, "branch", parts)
    bound = derive(static, secret, "bound branch")
    move = [session_id, u32(generation), bytes([branch]), u32(number), nonce, u64(counter), random]
    esp = derive(b"", secret, "esp of branch")
    following = derive(b"", secret, "next secret")
    return {
        "profile": profile,
        "cipher": cipher,
        "root": root.hex(),
        "session": session_id.hex(),
        "generation": generation,
        "branch": branch,
        "holder": holder,
        "holder_key": holder_key.hex(),
        "handshake_hash": handshake_hash.hex(),
        "static_secret": static.hex(),
        "number": number,
        "nonce": nonce.hex(),
        "incarnation_counter": counter,
        "incarnation_random": random.hex(),
        "client_random": client_random.hex(),
        "primary_random": primary_random.hex(),
        "branch_secret": secret.hex(),
        "bound_branch": bound.hex(),
        "up": derive(b"", bound, "packets of move", move + [b"up"]).hex(),
        "down": derive(b"", bound, "packets of move", move + [b"down"]).hex(),
        "first_nonce": derive(b"", root, "first move", length=16).hex(),
        "esp": esp.hex(),
        "esp_up": derive(b"", esp, "esp packets of move", move + [b"up"], 36).hex(),
        "esp_down": derive(b"", esp, "esp packets of move", move + [b"down"], 36).hex(),
        "next_root": derive(client_random, primary_random + following, "root of generation").hex(),
    }


# Section 6: a receipt and its MAC.
def receipt(answer, alone, drained):
    root = fill(0x15, 32)
    key = derive(b"", root, "receipts")
    client, incarnation, generation, number, holder = 0x1122334455667788, 7, 3, 5, 0x0A0B0C0D
    text = bytes([0x31 if answer else 0x30, 1 if alone else 0, 0, 0])
    text += u64(client) + u64(incarnation) + u32(generation) + u32(number) + u64(holder) + u64(drained)
    return {
        "root": root.hex(),
        "key": key.hex(),
        "answer": answer,
        "alone": alone,
        "client": client,
        "incarnation": incarnation,
        "generation": generation,
        "number": number,
        "holder": holder,
        "drained": drained,
        "bytes": (text + keyed(key, text)).hex(),
    }


VECTORS = {
    "handshakes": [
        handshake("standard", "aes-256-gcm", None, 32, 1088),
        handshake("standard", "chacha20-poly1305", fill(0x05, 32), 32, 1088),
        handshake("light", "aes-128-gcm", None, 32, 1088),
        handshake("high", "chacha20-poly1305", fill(0x05, 32), 64, 1568),
    ],
    "classical_handshakes": [
        classical("standard", "aes-256-gcm", None, 32),
        classical("high", "chacha20-poly1305", fill(0x05, 32), 64),
    ],
    "openings": [opening("standard", 1184, 1), opening("high", 1568, 2)],
    "sessions": [
        session("standard", "aes-256-gcm", 1, 0, 1),
        session("standard", "chacha20-poly1305", 2, 3, 70000),
        session("light", "aes-128-gcm", 0x01020304, 255, 0xFFFFFFFF),
        session("high", "aes-256-gcm", 7, 1, 2),
    ],
    "receipts": [
        receipt(False, True, 0),
        receipt(False, False, 0x0E0F),
        receipt(True, True, 0x0E0F),
    ],
}

if __name__ == "__main__":
    print(json.dumps(VECTORS, indent=1))
