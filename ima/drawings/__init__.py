"""The world of drawings: pictures, clips and sounds composed from what artists made."""
