"""
The data plane's table of contents.

    client → accept → classify → route → spool → 250          `receive.Receiver`
                                           │
               dispatch ◀── due, released, restarted          `dispatch.Dispatcher`
                   classify → route → deliver → journal → report
                                  └─→ hold or park
               changes of routing state                       `follow.Following`

Stations never import each other; they meet here.
"""
